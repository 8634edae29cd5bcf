"""Starting and stopping as a user does: flags, file, environment, ports, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.documents import make_document
from fakes.factory import XraydFactory
from fakes.process import Xrayd, clean_environment, free_port
from fakes.verdict import Verdict
from fakes.xray import CREDENTIALS, FakeXRay


def run(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run xrayd to its end."""
    return subprocess.run(
        [sys.executable, "-m", "xrayd", *args],
        cwd=home,
        env=clean_environment(home, env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_one_line_at_start_says_what_there_is_to_know(xrayd: XraydFactory) -> None:
    process = xrayd("-m", "50")
    line = process.wait_for_line("xrayd .*region us-east-1")[0] and process.wait_for_line("region")
    text = line.string
    for word in (
        "us-east-1 (setting)",
        "credentials from env",
        "endpoint http://127.0.0.1",
        f"udp 127.0.0.1:{process.port}",
        f"tcp 127.0.0.1:{process.port}",
        "receive buffer ",
        "memory 50.0 MB",
    ):
        assert word in text


@pytest.mark.parametrize("flag", ["-v", "--v", "-version", "--version", "-v=true"])
def test_version_is_printed(tmp_path: Path, flag: str) -> None:
    result = run(tmp_path, flag)
    assert result.returncode == 0
    assert "xrayd version: " in result.stdout


@pytest.mark.parametrize("flag", ["-h", "--help", "-help"])
def test_help_names_flags_and_commands(tmp_path: Path, flag: str) -> None:
    result = run(tmp_path, flag)
    assert result.returncode == 0
    for word in ("--buffer-memory", "-b, --bind", "healthcheck", "config"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nonsense"], "flag provided but not defined: -nonsense"),
        (["-b"], "flag needs an argument: -b"),
        (["-m", "many"], 'invalid value "many" for flag -m'),
        (["-o=perhaps"], 'invalid boolean value "perhaps" for -o'),
        (["---o"], "bad flag syntax: ---o"),
    ],
)
def test_a_bad_flag_prints_the_usage_and_exits_2(
    tmp_path: Path, args: list[str], message: str
) -> None:
    result = run(tmp_path, *args)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "2"], "at least 3"),
        (["-b", "nonsense"], "is no address"),
        (["-b", "127.0.0.1:99999"], "is no address"),
        (["-l", "loud"], "Logging.LogLevel is one of"),
        (["-p", "ftp://x"], "ProxyAddress: must be http://host:port"),
        (["-c", "absent.yaml"], "absent.yaml: cannot be read"),
        (["-f", "absent/dir/xray.log"], "Logging.LogPath"),
        (["-b", "no.such.host.invalid:2000"], "cannot be resolved"),
        (["-b", "a..b:2000"], "cannot be resolved"),
        (["-n", "evil.example/#"], "is no region"),
        (["-n", "us-east-1", "-p", "http://h:99999"], "ProxyAddress: must be http://host:port"),
        (["-n", "us-east-1", "-p", f"http://{'a' * 64}"], "ProxyAddress: must be"),
        (["-t", "nonsense", "healthcheck"], "Socket.TCPAddress: 'nonsense' is no address"),
        (["-t", f"{'a' * 64}:2000", "healthcheck"], "healthcheck: tcp aaa"),
        (["-n", "no region!"], "Region: 'no region!' is no region"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_1(tmp_path: Path, args: list[str], message: str) -> None:
    port = free_port()
    result = run(tmp_path, "-b", f"127.0.0.1:{port}", "-t", f"127.0.0.1:{port}", *args)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_REGION": "us east"}, "AWS_REGION: 'us east' is no region"),
        ({"AWS_DEFAULT_REGION": "x.y"}, "AWS_DEFAULT_REGION: 'x.y' is no region"),
        ({"AWS_ENDPOINT_URL_XRAY": "nonsense"}, "AWS_ENDPOINT_URL_XRAY: 'nonsense' must begin"),
        ({"AWS_CA_BUNDLE": "absent.pem"}, "certificate bundle absent.pem"),
        ({"AWS_CA_BUNDLE": "cfg.yaml"}, "certificate bundle cfg.yaml"),
        (
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "nonsense", "AWS_EC2_METADATA_DISABLED": "false"},
            "AWS_EC2_METADATA_SERVICE_ENDPOINT: 'nonsense' must begin",
        ),
    ],
)
def test_a_bad_variable_is_one_line_and_exit_1(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    (tmp_path / "cfg.yaml").write_text("Version: 2\n")
    at = f"127.0.0.1:{free_port()}"
    result = run(tmp_path, "-b", at, "-t", at, **CREDENTIALS, **variables)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Version: 3", "line 1: Version must be 1 or 2"),
        ("Regoin: x", "line 1: unknown key Regoin; did you mean Region?"),
        ("Socket:\n  UDPAdress: x", "line 2: unknown key Socket.UDPAdress; did you mean"),
        ("Profile:\n  CPU: x", "Profile.CPU is no longer supported"),
        ("LogRotation: true", "LogRotation has moved; write it as Logging.LogRotation"),
        ("Processor:\n  Region: x", "Processor.Region has moved; write it as Region"),
        ("Processor:\n  Routine: 1", "write it as Concurrency"),
        ("MemoryLimit: 5", "write it as TotalBufferSizeMB"),
        (
            "Logging:\n  LogFormat: x",
            "Logging.LogFormat is no longer supported; use Logging.Format",
        ),
        ("Concurrency: many", "Concurrency must be a whole number, not 'many'"),
        ("Concurrency: 0", "Concurrency must be at least 1"),
        ("LocalMode: 7", "LocalMode must be true or false, not 7"),
        ("Region: [a]", "Region must be text"),
        ("- a", "must be a mapping of settings"),
        ("a: b: c", "line 1: not valid YAML"),
        ("Region: a\nRegion: b", "line 2: Region stands here twice"),
        ("TotalBufferSizeMB: 1", "at least 3 MB"),
        ("Endpoint: ftp://x", "must begin with http:// or https://"),
        ("Endpoint: 'http://a b'", "must begin with http:// or https:// and name a host"),
        ("Endpoint: http://a..b", "must begin with http:// or https:// and name a host"),
        ("Endpoint: http://a:99999", "there is no port 99999"),
        ("Region: 2020-13-45", "line 1: Region: month must be in 1..12"),
        ("2020-13-45: a", "line 1: month must be in 1..12"),
        ("Region: !!timestamp x", "line 1: Region: this is not what its YAML tag says"),
        ('Concurrency: !!int ""', "line 1: Concurrency: this is not what its YAML tag says"),
        ("LocalMode: !!bool x", "line 1: LocalMode: this is not what its YAML tag says"),
        ("Concurrency: " + "9" * 5000, "line 1: Concurrency: Exceeds the limit"),
        ("Drain: {QuietSeconds: .nan}", "Drain.QuietSeconds must be a number, not nan"),
        (f"TotalBufferSizeMB: {10**400}", "TotalBufferSizeMB must be a number of fewer digits"),
        (f"Delivery: {{MaxAgeHours: {10**400}}}", "MaxAgeHours must be a number of fewer digits"),
        ("Delivery: {MaxAgeHours: .inf}", "Delivery.MaxAgeHours must be a number, not inf"),
        ('Logging: {LogPath: "a\\0b"}', "Logging.LogPath must be UTF-8 without NUL"),
        ('ResourceARN: "\\ud800"', "ResourceARN must be UTF-8 without NUL"),
        ('Proxy: {AllowedHosts: ["\\ud800"]}', "Proxy.AllowedHosts must be UTF-8 without NUL"),
        ("[" * 3000, "my.yaml: nested too deeply"),
        ("a\0b", "not valid YAML"),
        ("Proxy: {Operations: [Nonsense]}", "X-Ray has no operation 'Nonsense'"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    port = free_port()
    args = ["-n", "us-east-1", "-b", f"127.0.0.1:{port}", "-t", f"127.0.0.1:{port}"]
    result = run(tmp_path, "-c", "my.yaml", *args)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_off_may_be_written_as_yaml_reads_it(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("Sampling:\n  Apply: off\nSpool: {Sync: off}\n")
    result = run(tmp_path, "-c", "my.yaml", "config", "--json")
    assert result.returncode == 0, result.stderr
    assert '"off"' in result.stdout
    (tmp_path / "my.yaml").write_text("Sampling: {Proxy: off}\n")
    assert "must be text, not False" in run(tmp_path, "-c", "my.yaml", "config").stderr


def test_an_unknown_key_in_a_default_file_is_a_warning(xrayd: XraydFactory, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "cfg.yaml").write_text("Version: 2\nRegoin: x\n")
    port = free_port()
    process = Xrayd(
        "-o", "-n", "us-east-1", "-b", "127.0.0.1:{port}", "-t", "127.0.0.1:{port}",
        home=home, port=port, env=CREDENTIALS,
    )  # fmt: skip
    with process:
        process.wait_for_line("unknown key Regoin; did you mean Region.*ignored")


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("Region: from-file\nConcurrency: 3\nRoleARN: from-file\n")
    result = run(
        tmp_path, "-c", "my.yaml", "-n", "from-flag", "config", "--json",
        XRAYD_REGION="from-env", XRAYD_CONCURRENCY="5",
    )  # fmt: skip
    settings = json.loads(result.stdout)
    assert settings["Region"] == {"value": "from-flag", "origin": "flag -n"}
    assert settings["Concurrency"] == {"value": 5, "origin": "XRAYD_CONCURRENCY"}
    assert settings["RoleARN"] == {"value": "from-file", "origin": "my.yaml line 3"}
    assert settings["LocalMode"] == {"value": False, "origin": "default"}


def test_config_prints_a_table(tmp_path: Path) -> None:
    lines = run(tmp_path, "-o", "config").stdout.splitlines()
    assert any(line.split() == ["LocalMode", "true", "flag", "-o"] for line in lines)


def test_a_variable_with_a_typo_gets_a_suggestion(tmp_path: Path) -> None:
    result = run(tmp_path, "config", XRAYD_REGOIN="x", XRAYD_PORT_2000_TCP="k8s")
    assert "XRAYD_REGOIN: no such setting; did you mean XRAYD_REGION?" in result.stderr
    assert "XRAYD_PORT" not in result.stderr


def test_a_word_that_is_no_command_is_ignored(xrayd: XraydFactory, fake_xray: FakeXRay) -> None:
    process = xrayd("nonsense", "-x", "--also-ignored")
    process.send_document(make_document())
    fake_xray.wait_documents(1)


def test_flags_before_a_command_apply_to_it(tmp_path: Path) -> None:
    result = run(tmp_path, "-t", "0.0.0.0:2000", "-b", "0.0.0.0:2000", "config", "--json")
    assert json.loads(result.stdout)["Socket.UDPAddress"]["value"] == "0.0.0.0:2000"


@pytest.mark.parametrize(("kind", "word", "flag"), [
    (socket.SOCK_DGRAM, "UDP", "-b"), (socket.SOCK_STREAM, "TCP", "-t")])  # fmt: skip
def test_a_busy_port_names_its_holder(
    tmp_path: Path, kind: socket.SocketKind, word: str, flag: str
) -> None:
    import os

    port, other = free_port(), free_port()
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        addresses = {"-b": f"127.0.0.1:{other}", "-t": f"127.0.0.1:{other}"}
        addresses[flag] = f"127.0.0.1:{port}"
        result = run(tmp_path, *(part for pair in addresses.items() for part in pair))
    assert result.returncode == 1
    assert f"{word} port {port} is taken by pid {os.getpid()} (" in result.stderr


def test_a_second_xrayd_finds_the_port_taken_though_the_first_has_many_sockets(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    process = xrayd(config={"Socket": {"ReceiveBufferMB": 0}})
    address = f"127.0.0.1:{process.port}"
    result = run(tmp_path, "-b", address, XRAYD_SOCKET_RECEIVE_BUFFER_MB="0")
    assert result.returncode == 1
    assert f"UDP port {process.port} is taken by pid {process.pid} (" in result.stderr


@pytest.mark.parametrize("megabytes", [0, 16])
@pytest.mark.parametrize("address", ["[::1]:{port}", ":{port}"])
def test_other_ways_to_bind(
    xrayd: XraydFactory, fake_xray: FakeXRay, address: str, megabytes: int
) -> None:
    process = xrayd("-b", address, config={"Socket": {"ReceiveBufferMB": megabytes}})
    document = make_document()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(b'{"format":"json","version":1}\n' + document.encode(), ("::1", process.port))
    fake_xray.wait_documents(1)
    if address.startswith(":"):
        process.send_document(make_document())
        fake_xray.wait_documents(2)


def test_datagrams_sent_before_credentials_are_found_are_kept(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(ready=None, env={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None})
    process.wait_healthy()
    documents = [make_document() for _ in range(10)]
    process.send_document(*documents)
    process.wait_for_line("Segments are held, not sent: no credentials; tried environment")
    folder = process.home / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id={AWS_ACCESS_KEY_ID}\n"
        "aws_secret_access_key={AWS_SECRET_ACCESS_KEY}\n".format(**CREDENTIALS)
    )
    assert sorted(fake_xray.wait_documents(10, timeout=30)) == sorted(documents)
    process.wait_for_line("credentials from shared-credentials-file")


def test_without_a_region_segments_are_held_and_it_says_what_was_tried(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(region=None)
    process.send_document(make_document())
    line = process.wait_for_line("Segments are held, not sent: no region; tried Region, AWS_REGION")
    assert "EC2 instance metadata" not in line.string  # -o
    folder = process.home / ".aws"
    folder.mkdir()
    (folder / "config").write_text("[default]\nregion = us-east-1\n")
    fake_xray.wait_documents(1, timeout=30)
    process.wait_for_line(r"region us-east-1 \(profile default\)")


@pytest.mark.parametrize(("number", "name"), [
    (signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")])  # fmt: skip
def test_a_signal_flushes_and_exits_0(
    xrayd: XraydFactory, fake_xray: FakeXRay, number: int, name: str
) -> None:
    process = xrayd()
    process.send_document(*(make_document() for _ in range(30)))
    process.signal(number)
    assert process.wait(20) == 0
    assert len(fake_xray.documents) == 30
    process.wait_for_line(f"Got shutdown signal: {name}")
    process.wait_for_line(r"Stopped: received=30 .*sent=30 .*queued=0 .*in_flight=0 difference=0")


def test_a_signal_during_the_start_drains_what_has_come_since_the_port_was_bound(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd(ready=None)
    while not process.is_bound():
        assert process.running
    process.send_document(*(make_document() for _ in range(20)))
    process.sigterm()
    assert process.wait(20) == 0
    assert len(fake_xray.documents) == 20


def test_documents_sent_after_the_signal_still_arrive(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    process = xrayd()
    process.sigterm()
    process.wait_for_line("Got shutdown signal")
    process.send_document(*(make_document() for _ in range(20)))
    assert process.wait(20) == 0
    assert len(fake_xray.documents) == 20


def test_a_second_signal_forces(xrayd: XraydFactory) -> None:
    process = xrayd(config={"Drain": {"QuietSeconds": 9, "ListenSeconds": 9}})
    process.sigterm()
    process.wait_for_line("Got shutdown signal")
    ended = False
    for _ in range(100):  # one that follows at once is taken for the same signal
        process.sigterm()
        try:
            assert process.wait(0.1) == 1
        except AssertionError:
            assert process.running
            continue
        ended = True
        break
    assert ended


def test_python_dash_m_and_the_console_script_are_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("xrayd")
    if not script.exists():
        pytest.skip("xrayd is not installed as a console script here")
    shown = subprocess.run([script, "-v"], capture_output=True, text=True, check=True).stdout
    assert shown == run(tmp_path, "-v").stdout


def test_an_address_by_name_is_received_on_over_ipv4(
    xrayd: XraydFactory, fake_xray: FakeXRay
) -> None:
    # Of localhost's two addresses the X-Ray daemon takes this one, and SDKs send to it.
    process = xrayd("-b", "localhost:{port}", "-t", "localhost:{port}")
    process.send_document(make_document())
    fake_xray.wait_documents(1)


def test_help_into_a_closed_output_is_no_failure(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m xrayd -h >&-'
    result = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=clean_environment(tmp_path),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


def test_an_exit_does_not_wait_for_a_program_that_is_to_give_credentials(
    xrayd: XraydFactory, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    started = home / "started"
    (home / ".aws" / "config").write_text(
        f"[default]\ncredential_process = sh -c 'touch {started}; sleep 60'\n"
    )
    nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    process = xrayd(env=nothing, home=home)
    process.send_document(make_document())
    while not started.exists():
        assert process.running
    before = time.monotonic()
    process.sigterm()
    assert process.wait(30) == 0
    assert time.monotonic() - before <= 10 + 2  # the machine may be busy
    process.wait_for_line("Stopped: received=1 .*spilled=1 .*difference=0")


@pytest.mark.parametrize("answers", [True, False])
def test_a_spool_that_cannot_be_opened_for_a_hung_disk_does_not_hold_up_the_exit(
    xrayd: XraydFactory, fake_xray: FakeXRay, tmp_path: Path, answers: bool
) -> None:
    """A pipe in the place of a file hangs whoever opens it, as a disk that does not answer does."""
    home = tmp_path / "home"
    (home / "spool").mkdir(parents=True, mode=0o700)
    os.mkfifo(home / "spool" / f"{1:016x}.seg")
    if not answers:
        fake_xray.answer(Verdict(hang=True, stored=False))
    process = xrayd(config={"Spool": {"Directory": "spool"}}, home=home, ready=None)
    while not process.is_bound():
        assert process.running
    documents = [make_document() for _ in range(20)]
    process.send_document(*documents)
    before = time.monotonic()
    process.sigterm()
    assert process.wait(30) == 0
    assert time.monotonic() - before <= 10 + 2  # the machine may be busy
    count = r"sent=20 .*spilled=0" if answers else r"sent=0 .*spilled=20"
    process.wait_for_line(rf"Stopped: received=20 .*{count} .*difference=0")
    assert sorted(fake_xray.documents) == sorted(documents if answers else [])
