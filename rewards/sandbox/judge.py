"""The judge's half of a hearing; its text is run in a sandbox of its own (see zygote.py)."""

from __future__ import annotations


def judge(job: dict, space: dict, send, receive, encode_value, name_of) -> None:  # noqa: ANN001
    """Run trusted tests; each call of a function under test goes out and its result comes in."""
    plain = {"inf": float("inf"), "nan": float("nan"), "__builtins__": {}}
    plain.update(set=set, frozenset=frozenset, complex=complex, Opaque=Opaque, dict=dict)
    plain.update(iter=iter, range=range, enumerate=enumerate, __import__=__import__)

    def proxy(name: str):  # noqa: ANN202  a function of any signature
        def call(*args: object, **kwargs: object) -> object:
            send(f'["call", "{name}", {encode_value(list(args), 0)}, {encode_value(kwargs, 0)}]')
            kind, _, text = receive().partition(" ")
            if kind == "raised":
                import builtins

                error = getattr(builtins, text, RuntimeError)
                raise error() if issubclass(error, Exception) else RuntimeError(text)
            return eval(text, dict(plain))

        return call

    try:
        exec(compile(job["setup"], "setup.py", "exec"), space)
        for name in job["functions"]:
            space[name] = proxy(name)
        exec(compile(job["program"], "tests.py", "exec"), space)
        if job["entry"] and "check" in space:
            space["check"](space[job["entry"]])
        send('["passed"]')
    except AssertionError:
        send('["failed", "AssertionError"]')
    except BaseException as error:
        send(f'["failed", {name_of(error)}]')


class Opaque:
    """Something that is no plain data: equal to nothing."""
