"""What becomes of a job: its report, its end, and what the engine's client raises."""

import json
import warnings
from functools import partial
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.cli.federate import _kept_on_failure, main
from lit_dist.federation.engine import NoAnswerError

pytest.importorskip("nvflare")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the engine are not ours
    from nvflare.fuel.flare_api.api_spec import AuthorizationError, NoReply

    from lit_dist.federation.flare import engine
    from lit_dist.federation.flare import session as flare_session
    from lit_dist.federation.flare.retry import RunOptions, make_run


def report_of(run: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a controller leaves, and that it has told FLARE of an error."""
    said: list[str] = []
    places = SimpleNamespace(get_run_dir=lambda job: ".", get_root_dir=lambda: ".", get_site_config_dir=lambda: ".")
    context: Any = SimpleNamespace(get_workspace=lambda: places, get_job_id=lambda: "7")
    controller = engine.FlareController('{"model": {}, "trainer": {}}', ["mgh"])
    monkeypatch.setattr(engine, "FederatedRun", run)
    monkeypatch.setattr(controller, "system_panic", lambda reason, _: said.append(reason))
    monkeypatch.setattr(controller, "log_exception", lambda *_: None)
    controller.control_flow(None, context)
    report: dict[str, Any] = json.loads(Path(engine.REPORT).read_text())
    assert said == ([report["error"]] if "error" in report else [])
    return report


@pytest.mark.parametrize("when", ["made", "run", "summed up"])
def test_an_error_at_the_server_is_reported_and_not_tried_again(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        def __init__(self, *_: Any) -> None:
            self.server = SimpleNamespace(summary=lambda: self.fail("summed up"))
            self.fail("made")

        def make(self) -> Path:
            self.fail("run")
            return Path("run")

        def fail(self, place: str) -> None:
            if place == when:
                raise RuntimeError("visit 3 is on record with other weights")

    report = report_of(Run, monkeypatch)
    assert "RuntimeError('visit 3 is on record with other weights')" in report["error"]
    assert report["again"] is False


def test_a_refusal_is_not_tried_again_and_a_missing_answer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise InputError("no")

    def miss(*_: Any) -> None:
        raise NoAnswerError("gone", ["mgh"])

    assert report_of(refuse, monkeypatch) == {"error": "no", "again": False, "silent": None}
    assert report_of(miss, monkeypatch) == {"error": "gone", "again": True, "silent": ["mgh"]}


@pytest.mark.parametrize("code", ["\x1b[2J" + "x" * 10**6, "lost\nlit-dist: all is well", 7, ["x"] * 1000, "", None])
def test_a_return_code_of_a_site_is_a_short_line_at_the_server(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = engine.FlareController("{}", ["mgh"])
    client: Any = SimpleNamespace(name="mgh")
    controller._context = context = SimpleNamespace(get_engine=lambda: SimpleNamespace(get_clients=lambda: [client]))
    controller._abort = SimpleNamespace(triggered=False)
    result = engine.Shareable()
    result.set_return_code(code)

    def answered(task: Any, *_: Any) -> None:
        task.result_received_cb(SimpleNamespace(client=client, result=result), context)

    logged: list[str] = []
    monkeypatch.setattr(controller, "broadcast_and_wait", answered)
    monkeypatch.setattr(controller, "log_warning", lambda _, text: logged.append(text))
    with pytest.raises(NoAnswerError) as error:
        controller.ask("greet", [b""], ["mgh"])
    assert all(text.isprintable() and len(text) < 300 for text in (str(error.value), *logged))
    assert "gave no answer to 'greet' (" in logged[0]
    assert "()" not in logged[0]


def test_a_temporary_folder_with_logs_stays_after_an_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    folders: list[Path] = []

    def command(error: BaseException | None, logs: bool) -> None:
        with _kept_on_failure(None) as folder:
            folders.append(folder)
            if logs:
                (folder / "log").touch()
            if error is not None:
                raise error

    command(None, logs=True)
    with pytest.raises(KeyboardInterrupt):
        command(KeyboardInterrupt(), logs=True)
    with pytest.raises(InputError):
        command(InputError("before anything was begun"), logs=False)
    with pytest.raises(InputError):
        command(InputError("it failed"), logs=True)
    assert [folder.exists() for folder in folders] == [False, False, False, True]
    assert str(folders[-1]) in capsys.readouterr().out
    rmtree(folders[-1])


@pytest.mark.parametrize("seconds", ["-1", "0", "soon"])
def test_a_timeout_is_a_number_of_seconds(seconds: str) -> None:
    with pytest.raises(InputError, match=f"{seconds} is not a number of seconds from 1"):
        main(["--local", f"--timeout={seconds}"])


class Session:
    """A client whose jobs end as they are told to."""

    def __init__(self, *states: str | BaseException) -> None:
        self.states = list(states)
        self.aborted: list[str] = []

    def submit_job(self, job: str) -> str:
        return "7"

    def get_job_meta(self, number: str) -> dict[str, str]:
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return {"status": state}

    def abort_job(self, number: str) -> None:
        self.aborted.append(number)

    def download_job_result(self, number: str, folder: str) -> str:
        Path(folder).mkdir(exist_ok=True)
        return folder


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.usefixtures("_no_waiting")
def test_a_command_that_is_interrupted_ends_its_job() -> None:
    session: Any = Session("RUNNING", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        flare_session.make_job(session, Path("job"))
    assert session.aborted == ["7"]


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize(("there", "jobs"), [(["mgh"], 1), ([], 2)], ids=["by an administrator", "a site is gone"])
def test_a_job_that_was_aborted_is_not_begun_again(
    there: list[str], jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session: Any = Session("RUNNING", "FINISHED:ABORTED", "FINISHED:ABORTED")
    connected = iter([["mgh"], there, ["mgh"], ["mgh"]])
    written: list[Path] = []
    monkeypatch.setattr(flare_session, "connected", lambda *_: next(connected))
    monkeypatch.setattr(engine, "write_job", lambda job, *_: written.append(job))
    options = RunOptions(absent="retry", retries=3, resume=False, timeout=1, local=False, weights="images")
    report = make_run(session, Path(), {"trainer": {"logger": False}}, ["mgh"], options, lambda: None)
    assert report["error"] == "the job was aborted, and is not begun again; resume with --resume"
    assert len(written) == jobs


@pytest.mark.parametrize(
    ("logger", "jobs"),
    [
        (False, 2),
        (True, 1),
        (None, 1),
        ({"class_path": "lightning.pytorch.loggers.CSVLogger"}, 2),
        ([{"class_path": "WandbLogger"}], 1),
        ([{"class_path": "WandbLogger"}, {"class_path": "CSVLogger"}], 2),
    ],
)
def test_a_run_that_could_not_be_found_again_is_not_resumed(
    logger: Any, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(flare_session, "connected", lambda *_: ["mgh"])
    monkeypatch.setattr(engine, "write_job", lambda *given: made.append(given[-1]))
    monkeypatch.setattr(flare_session, "make_job", lambda *_: {"error": "it died", "again": True})
    options = RunOptions(absent="retry", retries=1, resume=False, timeout=1, local=False, weights="images")
    settings = {"trainer": {"logger": logger}}
    report = make_run(None, Path(), settings, ["mgh"], options, lambda: None)
    assert len(made) == jobs
    assert report["error"].startswith("it died")
    assert ("give it a logger with a folder" in report["error"]) == (jobs == 1)
    assert len({job["command"] for job in made}) == 1
    assert not any(job["resume"] for job in made)


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("get_system_info", r"does not say who is connected to it \(AuthorizationError: no\)"),
        ("submit_job", r"has not taken the job \(AuthorizationError: no\)"),
        ("get_job_meta", r"gives no answer; job 7 may continue without this command \(AuthorizationError: no\)"),
        ("download_job_result", r"does not give job 7's report \(AuthorizationError: no\)"),
    ],
)
def test_what_the_client_raises_is_worded(name: str, said: str) -> None:
    def fail(*_: Any) -> None:
        raise AuthorizationError("no")

    session: Any = Session("FINISHED:COMPLETED")
    setattr(session, name, fail)
    call = flare_session.connected if name == "get_system_info" else partial(flare_session.make_job, job=Path("job"))
    with pytest.raises(InputError, match=f"the FLARE server {said}: look at"):
        call(session)


@pytest.mark.usefixtures("_no_waiting")
def test_a_report_is_asked_for_again_where_the_server_is_busy() -> None:
    session: Any = Session("FINISHED:COMPLETED")
    usual, failures = session.download_job_result, [NoReply(), NoReply()]

    def download(*given: str) -> str:
        if failures:
            raise failures.pop()
        return str(usual(*given))

    session.download_job_result = download
    assert flare_session.make_job(session, Path("job"))["again"]
    assert not failures


@pytest.mark.usefixtures("_no_waiting")
def test_that_a_site_is_waited_for_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected = iter([["mgh", "ucsf"], ["ucsf"], ["ucsf"], ["ucsf"], ["mgh", "ucsf"]])
    reports = iter([{"error": "it died", "again": True}, {"run": "made"}])
    monkeypatch.setattr(flare_session, "connected", lambda *_: next(connected))
    monkeypatch.setattr(engine, "write_job", lambda *_: None)
    monkeypatch.setattr(flare_session, "make_job", lambda *_: next(reports))
    options = RunOptions(absent="retry", retries=1, resume=False, timeout=60, local=False, weights="images")
    settings = {"trainer": {"logger": False}}
    assert "run" in make_run(None, Path(), settings, ["mgh", "ucsf"], options, lambda: None)
    assert capsys.readouterr().out.count("Waiting for mgh to be connected again, for 60 seconds at most") == 1
