"""`gradtx compare`: which optimizer, with which learning rate, for a problem like mine?

Not imported by `gradtx`; needs the packages of `pip install "gradtx[compare]"`.
"""
