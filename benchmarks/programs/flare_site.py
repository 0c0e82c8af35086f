"""A site of FLARE's: makes a visit whenever it is given weights."""

import nvflare.client as flare

from programs.work import make_loader, make_model, make_visit

if __name__ == "__main__":
    flare.init()
    loader = make_loader(int(flare.get_site_name().partition("-")[2]))
    model = make_model()
    while flare.is_running():
        received = flare.receive()
        model.load_state_dict(received.params)
        make_visit(model, loader)
        flare.send(flare.FLModel(params=model.state_dict()))
