"""A baton that comes back is checked: only what can have become of the one that was sent is resumed."""

from contextlib import nullcontext

import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation import wire
from small_federation import engine, server


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=2)


def of_another_visit(answer: wire.Message) -> wire.Message:
    tree = wire.unpack(answer)
    [account] = tree["baton"]["callbacks"].values()
    account["record"]["visit"] = (5, 1, "site-2")
    return wire.pack(tree)


@pytest.mark.slow
@pytest.mark.parametrize("replayed", [False, True])
def test_the_rest_of_a_visit_that_was_cut_short_is_checked_as_well(replayed: bool) -> None:
    def transfer() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=2)

    answers: list[wire.Message] = []

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question != "train" or site != "site-2":
            return answer
        answers.append(answer)
        return answer if len(answers) == 1 else answers[0] if replayed else of_another_visit(answer)

    for epochs in (3, 4):
        parties = engine(transfer, max_epochs=epochs)
        parties.change = change
        run = server(parties, transfer, RunCheckpoint(), max_epochs=epochs, enable_checkpointing=True)
        message = "goes back from epoch 3 to 2" if replayed else r"'visit': \(5,"
        with nullcontext() if epochs == 3 else pytest.raises(InputError, match=rf"site-2.*refused.*{message}"):
            run.run(newest_checkpoint("server") if epochs > 3 else None)


@pytest.mark.slow
def test_a_replayed_answer_is_refused() -> None:
    parties = engine(make, max_epochs=2)
    first: list[wire.Message] = []

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question == "train" and site == "site-1":
            first.append(answer)
            return first[0]
        return answer

    parties.change = change
    with pytest.raises(InputError, match=r"site-1.*refused: it goes back from epoch 1 to 0"):
        server(parties, make, max_epochs=2).run()
