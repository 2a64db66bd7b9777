#!/usr/bin/env python3
"""frugal: an agent that finds primes, and computes only when that pays.

    maxwell exec --budget 500J --bid 5W -- python3 frugal.py --state frugal.json
    python3 frugal.py --count 1000          (without Maxwell: just primes)

It works in units of some milliseconds. After each it looks at the price, its balance and its own speed, and bids what
a core-second of its time earns from a sponsor: if a core costs more, it does not run, and it loses nothing by that. When
no sponsor pays any more it ends. On `apoptosis` and on SIGTERM it writes its state down; the
next run goes on from there.

The class `Maxwell` is all that an agent needs to speak to Maxwell. Copy it.
"""

import argparse
import json
import os
import select
import signal
import socket
import sys
import time


class MaxwellError(Exception):
    """An error object: `code` is its number, `reason` its stable word or None."""

    def __init__(self, error):
        super().__init__(error.get("message", "no message"))
        self.code = error.get("code")
        self.reason = (error.get("data") or {}).get("reason")


class Maxwell:
    """The agent protocol, version 1: JSON-RPC 2.0, one message a line, on the socket that MAXWELL_SOCKET numbers.

    Every verb is a method: `maxwell.bid(limit="5W")`. Amounts are whole numbers: mW, nJ, microseconds.
    """

    def __init__(self, descriptor):
        # Children of this process shall not speak in its name.
        os.set_inheritable(descriptor, False)
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(True)
        self.heard = b""
        self.asked = 0
        self.condemned = None

    @classmethod
    def connect(cls):
        """The connection, or None without Maxwell."""
        number = os.environ.pop("MAXWELL_SOCKET", None)
        return cls(int(number)) if number is not None else None

    def __getattr__(self, verb):
        return lambda **params: self.call(verb, params)

    def call(self, verb, params):
        """Asks, and waits for the answer. Raises MaxwellError, or OSError if Maxwell is gone."""
        self.asked += 1
        request = {"jsonrpc": "2.0", "id": self.asked, "method": verb, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._next_line()
            if "method" in answer:
                self._noticed(answer)
            elif answer.get("id") == self.asked:
                if "error" in answer:
                    raise MaxwellError(answer["error"])
                return answer["result"]

    def poll(self):
        """Hears what Maxwell has to say, without waiting. Afterwards `condemned` is the notice of the end, or None."""
        while b"\n" in self.heard or select.select([self.socket], [], [], 0)[0]:
            message = self._next_line()
            if "method" in message:
                self._noticed(message)
        return self.condemned

    def _noticed(self, message):
        if message["method"] == "apoptosis":
            self.condemned = message["params"]

    def _next_line(self):
        while b"\n" not in self.heard:
            received = self.socket.recv(65536)
            if not received:
                raise ConnectionError("Maxwell has closed the connection")
            self.heard += received
        line, self.heard = self.heard.split(b"\n", 1)
        return json.loads(line)


def is_prime(n):
    """Trial division: slow on purpose, this agent is here to compute."""
    if n < 2 or n % 2 == 0:
        return n == 2
    divisor = 3
    while divisor * divisor <= n:
        if n % divisor == 0:
            return False
        divisor += 2
    return True


class Searcher:
    """The work, and the little that must outlive this process."""

    UNIT_S = 0.004

    def __init__(self, path, start):
        self.path, self.next, self.found = path, start, 0
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                state = json.load(file)
            self.next, self.found = int(state["next"]), int(state["found"])

    def save(self):
        """Whole or not at all: it may be the last thing that this process does."""
        if self.path:
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump({"next": self.next, "found": self.found}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.path + ".new", self.path)

    def unit(self):
        """Some milliseconds of work: the primes found, and the core time they took."""
        began, primes = time.process_time(), []
        while time.process_time() - began < self.UNIT_S:
            if is_prime(self.next):
                primes.append(self.next)
            self.next += 1
        self.found += len(primes)
        return primes, time.process_time() - began


class Trader:
    """Decides what a core-second is worth."""

    def __init__(self, maxwell):
        self.maxwell, self.limit = maxwell, None
        self.earned, self.core = 0, 1e-9
        hello = maxwell.hello(protocol=1)
        self.say(f"frugal speaks to Maxwell {hello['maxwell']} as agent {hello['agent']}")

    def say(self, text):
        """A line for whoever watches, if there is room for it."""
        try:
            self.maxwell.log(text=text)
        except MaxwellError as error:
            if error.reason != "too_many_lines":
                raise

    def sponsor(self):
        """Who pays best for primes, or None."""
        offers = [o for o in self.maxwell.sponsors()["sponsors"] if o["kind"] == "prime" and o["funded"]]
        return max(offers, key=lambda offer: offer["reward"], default=None)

    def sell(self, primes, core_s):
        """Sells primes; False when nobody buys any more."""
        sponsor = self.sponsor()
        if sponsor is None:
            # It ends, and its order with it. A bid of nothing would freeze it before it could.
            return False
        self.core += core_s
        for prime in primes:
            if prime >= sponsor.get("least", 0):
                try:
                    self.earned += self.maxwell.submit(sponsor=sponsor["sponsor"], unit=prime)["reward"]
                except MaxwellError as error:
                    if error.reason != "too_many_claims":
                        raise
                    break
        return True

    def trade(self):
        """Bids what a core-second earns, less a tenth. False if the wallet lasts for ten more slots of 10 ms only.

        The wallet needs no care here: the market counts a bid only as far as its wallet covers it. But a bid of nothing
        would be the last one: who is frozen cannot bid again.
        """
        worth_mw = max(1, int(0.9 * self.earned / (self.core * 1e6)))  # nJ per microsecond are mW
        spot_mw = self.maxwell.price()["spot"]
        if worth_mw < spot_mw:
            self.say(f"a core costs {spot_mw} mW and earns me {worth_mw} mW: I wait")
        self.bid(worth_mw)
        return self.maxwell.balance()["balance"] > 10 * spot_mw * 10_000

    def bid(self, limit_mw):
        """Tells the market, if it is news: a change of less than a twentieth is none."""
        if self.limit is None or limit_mw == 0 or abs(limit_mw - self.limit) * 20 > self.limit:
            self.limit = self.maxwell.bid(limit=limit_mw)["limit"]


def main():
    parser = argparse.ArgumentParser(description="finds primes, and computes only when that pays")
    parser.add_argument("--start", type=int, default=1_000_000, help="the first number to look at")
    parser.add_argument("--count", type=int, default=0, help="stop after so many primes; 0: go on")
    parser.add_argument("--state", help="file to save to at the end, and to go on from")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    maxwell, searcher = Maxwell.connect(), Searcher(options.state, options.start)
    trader = Trader(maxwell) if maxwell else None
    units = 0
    try:
        while not options.count or searcher.found < options.count:
            primes, core_s = searcher.unit()
            units += 1
            if trader:
                if not trader.sell(primes, core_s):
                    break
                if units % 5 == 0 and not trader.trade():
                    searcher.save()
                if maxwell.poll():
                    trader.say(f"condemned ({maxwell.condemned['reason']}): saved at {searcher.next}")
                    break
    except OSError as error:
        print(f"frugal: {error}; the state is saved", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    finally:
        # The notice comes some time before the signal: that must not disturb the saving.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        searcher.save()
    print(f"{searcher.found} primes below {searcher.next}")


if __name__ == "__main__":
    main()
