"""The dress of the report: style sheet and the script that makes pictures answer the pointer."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f7f8fa; --ink: #1c1e21; --muted: #62676e; --rule: #e2e4e8;
  --ghost: #c9cdd3; --best: #e3f2ea; --best-ink: #0a6b46; --bad: #b3261e;
  --s0: #006ba6; --s1: #b84e00; --s2: #007a58; --s3: #a8468c;
  --s4: #8a5f00; --s5: #0b7a8a; --s6: #7a5a3c; --s7: #5b5b9a;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #15171a; --card: #1d2024; --ink: #eceef1; --muted: #a0a6ae; --rule: #2c3036;
  --ghost: #454b54; --best: #173528; --best-ink: #6fd3a6; --bad: #ff8a80;
  --s0: #58a6e0; --s1: #f0813a; --s2: #2fc39a; --s3: #dd83c4;
  --s4: #e3ac3b; --s5: #7cc8f0; --s6: #c19a76; --s7: #9c9ce0;
} }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 28px }
header { padding-top: 44px }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 6px }
h2 { font-size: 24px; line-height: 1.25; letter-spacing: -.015em; margin: 0 0 4px }
h3 { font-size: 17px; margin: 44px 0 2px }
p { margin: 0 0 10px; max-width: 76ch }
.muted, figcaption, footer { color: var(--muted); font-size: 14px }
section { padding-top: 34px; margin-top: 30px; border-top: 1px solid var(--rule) }
header + main > section:first-child { border-top: 0; margin-top: 0; padding-top: 26px }
.verdict { font-size: 19px; line-height: 1.45; margin: 16px 0 20px; max-width: 68ch }
nav a { color: inherit; margin-right: 18px; text-underline-offset: 3px }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 14.5px }
th { font-weight: 500; color: var(--muted); font-size: 13px; line-height: 1.3;
  vertical-align: bottom }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--rule);
  white-space: nowrap }
th.name, th.rates { text-align: left }
td.place { text-align: left; padding: 6px 2px 6px 8px; color: var(--muted) }
/* The name stays in sight where the rest of the table is moved under it. */
tbody th, thead th.name { position: sticky; left: 0; background: var(--paper); text-align: left }
tbody th { font-weight: 400; font-size: 14.5px; color: inherit; vertical-align: middle }
tr.family td { color: var(--muted); font-size: 13px; padding-top: 16px }
tbody tr:not(.family):hover { background: var(--card) }
td.best { background: var(--best); color: var(--best-ink); font-weight: 600 }
td small { color: var(--muted); font-size: 12.5px }
td.best small { color: inherit }
.bad { color: var(--bad) }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 9px }
.name { font-weight: 600 }
td svg, th svg { display: block }
figure { margin: 4px 0 0; padding: 0 }
figure svg { width: 100%; height: auto; display: block; margin-top: 10px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
figcaption { max-width: 82ch }
.words { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 14px;
  margin-top: 14px }
.words div { background: var(--card); border-radius: 8px; padding: 13px 16px; font-size: 14.5px;
  border-left: 4px solid var(--hue) }
.words b { display: block; margin-bottom: 2px }
.opt { transition: opacity .12s }
.focus .opt { opacity: .1 }
.focus .opt.on { opacity: 1 }
.focus tr.opt:not(.on), .focus .words .opt:not(.on) { opacity: .4 }
footer { padding-top: 26px; padding-bottom: 60px; margin-top: 40px }
footer dt { float: left; clear: left; width: 9em } footer dd { margin: 0 0 2px 9em }
@media (max-width: 640px) { main, header, footer { padding: 0 14px }
  h1 { font-size: 24px } .verdict { font-size: 17px }
  figure { overflow-x: auto } figure svg { min-width: 720px } }
@media print { section { break-inside: auto } figure, .words div { break-inside: avoid } }
"""

SCRIPT = """
for (const section of document.querySelectorAll("section")) {
  const marks = section.querySelectorAll("[data-opt]");
  for (const mark of marks) {
    mark.addEventListener("pointerenter", () => {
      section.classList.add("focus");
      for (const other of marks)
        other.classList.toggle("on", other.dataset.opt === mark.dataset.opt);
    });
    mark.addEventListener("pointerleave", () => section.classList.remove("focus"));
  }
}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document that needs nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
