"""The example application of three cells, as its README tells it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulp_runtime import Host

BANK = Path(__file__).parents[2] / "examples" / "bank"
CELLS = ("accounts", "notifier", "gateway")


class Bank:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.address = host.url.removeprefix("http://")

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.request(method, f"/bank/{path}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def accounts(self) -> dict[str, int]:
        status, body = self.ask("GET", "accounts")
        assert status == 200, body
        return {one["name"]: one["cents"] for one in json.loads(body)}

    def reload(self, cell: str) -> None:
        thread = self.host._thread
        assert thread is not None
        thread.run(self.host.operations.reload(cell))


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with Host(app=BANK, storage_root=tmp_path, http_port="127.0.0.1:0") as host:
        bank = Bank(host)
        for name in ("ada", "bob"):
            assert bank.ask("POST", f"accounts/{name}")[0] == 201
        yield bank


def test_money_moves_from_one_account_to_the_other(bank: Bank) -> None:
    assert bank.ask("POST", "transfer/ada/bob/2500") == (204, b"")

    assert bank.accounts() == {"ada": 7500, "bob": 12_500}


@pytest.mark.parametrize(
    "transfer",
    ["ada/bob/10001", "ada/nobody/5", "nobody/ada/5", "ada/ada/5", "ada/bob/0", "ada/bob/-5"],
    ids=["more than there is", "to nobody", "from nobody", "to itself", "nothing", "less than nothing"],
)
def test_a_transfer_that_cannot_be_made_changes_nothing(bank: Bank, transfer: str) -> None:
    assert bank.ask("POST", f"transfer/{transfer}")[0] == 409

    assert bank.accounts() == {"ada": 10_000, "bob": 10_000}


def test_a_name_is_given_once(bank: Bank) -> None:
    assert bank.ask("POST", "accounts/ada")[0] == 409


def test_browsers_hear_of_a_transfer(bank: Bank) -> None:
    stream = http.client.HTTPConnection(bank.address, timeout=20)
    stream.request("GET", "/bank/events")
    answer = stream.getresponse()

    bank.ask("POST", "transfer/ada/bob/1")

    line = next(line for line in iter(answer.readline, b"") if line.startswith(b"data:"))
    assert line == b"data: a transfer to bob\n"
    stream.close()


@pytest.mark.slow
def test_every_cell_is_replaced_under_load_and_no_request_fails(bank: Bank) -> None:
    """Transfers go to and fro and the list is read, over connections that stay open, while each cell is reloaded."""
    over = threading.Event()
    answers: list[tuple[str, int, bytes]] = []
    errors: list[BaseException] = []

    def client(requests: list[tuple[str, str]]) -> None:
        connection = http.client.HTTPConnection(bank.address, timeout=20)
        try:
            while not over.is_set():
                for method, path in requests:
                    connection.request(method, path)
                    answer = connection.getresponse()
                    answers.append((path, answer.status, answer.read()))
        except Exception as error:  # noqa: BLE001  # the test tells
            errors.append(error)
        finally:
            connection.close()

    to_and_fro = [("POST", "/bank/transfer/ada/bob/1"), ("POST", "/bank/transfer/bob/ada/1")]
    clients = [threading.Thread(target=client, args=(to_and_fro,)) for _ in range(3)]
    clients += [threading.Thread(target=client, args=([("GET", "/bank/accounts")],)) for _ in range(3)]
    for one in clients:
        one.start()
    for _ in range(3):
        for cell in CELLS:
            before = len(answers)
            bank.reload(cell)
            while len(answers) < before + 20 and not errors:  # each version has answered something
                over.wait(0.005)
    over.set()
    for one in clients:
        one.join()

    assert errors == []
    assert [one for one in answers if one[1] not in (200, 204)] == []
    assert sum(bank.accounts().values()) == 20_000
    assert {cell.state for cell in bank.host.status().values()} == {"ready"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk")
def test_wrk_sees_no_error_while_every_cell_is_replaced(bank: Bank) -> None:
    command = ["wrk", "-t1", "-c16", "-d4", f"{bank.host.url}/bank/accounts"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        reloads = 0
        while load.poll() is None:
            bank.reload(CELLS[reloads % 3])
            reloads += 1
        assert load.stdout is not None
        told = load.stdout.read()

    assert reloads >= 3
    assert "Non-2xx" not in told
    assert "Socket errors" not in told
    requests = re.search(r"(\d+) requests in", told)
    assert requests is not None
    assert int(requests[1]) > 100
