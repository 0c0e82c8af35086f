"""The work by Flower's simulation: a server that asks one node after another."""

import time

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from programs.work import CYCLES, SITES, make_loader, make_model, make_visit, report


def query(message: Message, context: Context) -> Message:
    """Say which site this node is."""
    return Message(
        RecordDict({"site": ConfigRecord({"number": context.node_config["partition-id"]})}), reply_to=message
    )


def train(message: Message, context: Context) -> Message:
    """Make a visit."""
    model = make_model()
    model.load_state_dict(message.content["weights"].to_torch_state_dict())
    make_visit(model, make_loader(int(context.node_config["partition-id"])))
    return Message(RecordDict({"weights": ArrayRecord(model.state_dict())}), reply_to=message)


def main(grid: Grid, context: Context) -> None:
    """Ask the sites in their order."""
    while len(list(grid.get_node_ids())) < SITES:
        time.sleep(0.1)
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in grid.get_node_ids()]
    answers = grid.send_and_receive(questions)
    nodes = {int(answer.content["site"]["number"]): answer.metadata.src_node_id for answer in answers}
    weights = ArrayRecord(make_model().state_dict())
    for visit in range(CYCLES * SITES):
        question = Message(RecordDict({"weights": weights}), nodes[visit % SITES], MessageType.TRAIN)
        (answer,) = grid.send_and_receive([question])
        weights = answer.content["weights"]
    model = make_model()
    model.load_state_dict(weights.to_torch_state_dict())
    report(model, time.perf_counter() - START)


if __name__ == "__main__":
    START = time.perf_counter()
    client, server = ClientApp(), ServerApp()
    client.query()(query)
    client.train()(train)
    server.main()(main)
    run_simulation(server, client, num_supernodes=SITES, backend_config={"client_resources": {"num_cpus": 1}})
