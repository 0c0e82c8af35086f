"""NVIDIA FLARE as the engine: only the files of this folder import it.

FLARE has the machines' identities, the encryption, the transport and the jobs. A job ships settings, no code.
"""

import functools
import gc
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.fuel.utils.buffer_list import ConsumableBufferList

from lit_dist.federation.build import FederatedRun, make_site
from lit_dist.federation.client import SiteClient
from lit_dist.federation.device_processes import DeviceProcesses
from lit_dist.federation.engine import NoAnswerError
from lit_dist.federation.policy import of_site, read_run
from lit_dist.federation.refusal import refusal
from lit_dist.federation.roster import Absent, Roster, Weights
from lit_dist.federation.site_settings import ServerSettings, Settings, SiteSettings
from lit_dist.federation.wire import Message, size
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import said

REPORT = "lit_dist.json"
_CONTENT = "content"

# FLARE words all that a server receives for a line of its log, written or not: four bytes of text for each byte.
ConsumableBufferList.__repr__ = lambda self: f"{len(self)} pieces"


class FlareController(Controller):
    """The server's side: makes the run, and asks the sites as it goes.

    Args:
        settings: The run's settings as JSON: what FLARE would read by itself, it would make objects of.
        sites: The names of the sites, in the order of the run.
        resume: Whether to continue the newest run.
        command: The id of the command that has submitted the job, see ``FederatedRun``.
        absent: What happens where a site does not answer, see ``Roster``.
        weights: What a site counts in values of all sites together, see ``Roster``.
        timeout: For how many seconds to wait for an answer; a visit may take hours.
    """

    at_once = True  # several threads may ask

    def __init__(
        self,
        settings: str,
        sites: list[str],
        resume: bool = False,
        command: str = "",
        absent: Absent = "retry",
        weights: Weights = "images",
        timeout: int = 86400,
    ) -> None:
        super().__init__(task_check_period=0.05)
        self.settings = settings
        self.sites = sites
        self.resume = resume
        self.command = command
        self.absent = absent
        self.weights = weights
        self.timeout = timeout
        self.asked: list[dict[str, Any]] = []  # what, whom, how long and how much, for the report

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is to be prepared."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is to be cleaned up."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Make the run, and leave a report."""
        self._context, self._abort = fl_ctx, abort_signal
        workspace = fl_ctx.get_workspace()
        report = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / REPORT
        try:
            own = ServerSettings.read(Path(workspace.get_site_config_dir()) / "server.yaml")
            root = Path(own.runs or Path(workspace.get_root_dir()) / "runs")
            settings = read_run(self.settings)
            roster = Roster(self, self.sites, self.absent, self.weights)
            run = FederatedRun(settings, roster, root, self.resume, self.command, own.classes)
            made = json.dumps({"run": str(run.make()), "said": run.server.summary(), "asked": self.asked})
        except Exception as error:
            reason = _report_of(error)
            report.write_text(json.dumps(reason))
            if not isinstance(error, InputError):
                self.log_exception(fl_ctx, reason["error"])  # with its traceback
            self.system_panic(reason["error"], fl_ctx)
            return
        report.write_text(made)

    def ask(self, question: str, content: Message, sites: Sequence[str]) -> dict[str, Message]:
        """Ask some sites a question, all at once, and wait for every answer."""
        collect_garbage()
        answers: dict[str, Message] = {}
        problems: dict[str, str] = {}

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
            site, result = client_task.client.name, client_task.result
            if result.get_return_code() == ReturnCode.OK and _is_message(result.get(_CONTENT)):
                answers[site] = result[_CONTENT]
            else:
                problems[site] = said(result.get_return_code(), 100)  # whatever the site has put there
            client_task.result = None  # FLARE would keep it in memory

        data = Shareable()
        data[_CONTENT] = content
        start = time.monotonic()
        task = Task(question, data, timeout=self.timeout, result_received_cb=received)
        job = {client.name for client in self._context.get_engine().get_clients()}  # for another, FLARE would wait
        there = [site for site in sites if site in job]
        if there:
            self.broadcast_and_wait(task, self._context, there, len(there), 0, self._abort)
        received_bytes = {site: size(answer) for site, answer in answers.items()}
        seconds = round(time.monotonic() - start, 3)
        asked = {"question": question, "start": start, "seconds": seconds, "sent": size(content)}
        self.asked.append({**asked, "received": received_bytes})
        silent = [site for site in sites if site not in answers]
        if silent:
            why = problems.get(silent[0]) or f"{task.completion_status}, {self.timeout} s at most"
            message = f"site {silent[0]!r} gave no answer to {question!r} ({why if there else 'it is not connected'})"
            self.log_warning(self._context, message)
            advice = f"{message}; look at its log, and resume with --resume"
            raise NoAnswerError(advice, silent, answers, over=self._abort.triggered)
        return answers

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """An answer that comes too late is not used."""
        self.log_warning(fl_ctx, f"an answer of {client.name} to {task_name!r} was not asked for, or is too late")


def _report_of(error: Exception) -> dict[str, Any]:
    """What ended the run; only where a site did not answer is it of use to resume it at once."""
    silent = error.silent if isinstance(error, NoAnswerError) else None
    text = str(error) if isinstance(error, InputError) else f"the server's run has ended with {error!r}; see its log"
    return {"error": text, "again": silent is not None, "silent": silent}


def collect_garbage() -> None:
    """Free what nothing uses any more, at once.

    What FLARE has sent is as large as the weights, and Python by itself may not look for it before many visits later.
    """
    _freeze()
    gc.collect()


@functools.cache
def _freeze() -> None:
    # To look each time through what is there for good would take a third of a second.
    gc.collect()
    gc.freeze()


def _is_message(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(piece, bytes) for piece in content)


class FlareExecutor(Executor):
    """A site's side: answers the server's questions, with one trainer and one datamodule for the whole run."""

    def __init__(self, settings: str) -> None:
        super().__init__()
        self.settings = settings
        self._client: SiteClient | DeviceProcesses | None = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer a question."""
        collect_garbage()
        reply = make_reply(ReturnCode.OK)
        try:
            client = self._client = self._client or self._make(fl_ctx)
            reply[_CONTENT] = client.answer(task_name, shareable.pop(_CONTENT))  # else it would stay in memory
        except InputError as error:
            reply[_CONTENT] = refusal(error)
        return reply

    def _make(self, fl_ctx: FLContext) -> SiteClient | DeviceProcesses:
        workspace = fl_ctx.get_workspace()
        own = SiteSettings.read(Path(workspace.get_site_config_dir()) / "site.yaml")
        # FLARE looks for modules in its workspace, so the folder's name must be none.
        folder = Path(own.folder or Path(workspace.get_root_dir()) / "lit-dist")
        return make_site(fl_ctx.get_identity_name(), read_run(self.settings), own, folder)


def write_job(
    folder: Path, settings: Settings, sites: Sequence[str], there: Sequence[str], server: Mapping[str, Any]
) -> None:
    """Write a job's folder: settings for the two classes above, and no code; for the sites those of the run only.

    Of the sites, the job is given to those that are there. The other arguments of ``FlareController`` are ``server``.
    """
    text = json.dumps(settings)
    skip = server.get("absent") == "skip"
    run = {name: settings[name] for name in settings if name != "data"}
    for_sites = json.dumps({**run, "trainer": of_site(settings["trainer"])})
    polling = {"task_request_interval": 0.25}  # seconds between a site's questions for work; FLARE's own is 2
    common = {"format_version": 2, "task_data_filters": [], "task_result_filters": []}
    controller = {
        "id": "lit_dist",
        "path": f"{__name__}.FlareController",
        "args": {"settings": text, "sites": list(sites), **server},
    }
    executor = {"path": f"{__name__}.FlareExecutor", "args": {"settings": for_sites}}
    files = {
        "meta.json": {
            "name": "lit_dist",
            "resource_spec": {},
            # FLARE ends a job that lacks a mandatory site.
            "min_clients": 1 if skip else len(there),
            "mandatory_clients": [] if skip else list(there),
            "deploy_map": {"server": ["server"], "site": list(there)},
        },
        "server/config/config_fed_server.json": {**common, "workflows": [controller], "server": polling},
        "site/config/config_fed_client.json": {**common, "executors": [{"tasks": ["*"], "executor": executor}]},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
