"""The same as it grew: a class, a generator, `send`, `throw`, `return`, `yield from`, a loop."""


class Counter:
    def __init__(self, stop):
        self.number, self.stop = 0, stop

    def __iter__(self):
        return self

    def __next__(self):
        if self.number == self.stop:
            raise StopIteration
        self.number += 1
        return self.number - 1


def average():
    total, count = 0.0, 0
    while True:
        try:
            total += yield total / max(count, 1)
        except ZeroDivisionError:
            total, count = 0.0, -1
        count += 1


def echo():
    heard = yield "ready"
    while heard != "stop":
        heard = yield heard.upper()


def conversation():
    for _ in range(2):
        yield from echo()


def task(name, steps):
    for step in range(steps):
        yield f"{name}{step}"  # gives the others a turn; waits for nothing
    return f"the result of {name}"


def loop(tasks):
    while tasks:
        current = tasks.pop(0)
        try:
            print(next(current), end=" ")
            tasks.append(current)
        except StopIteration as stop:
            print(stop.value)


print([number for number in Counter(10) if number % 3 == 0])
mean = average()
next(mean)  # or the first `send` fails
print([mean.send(10.0), mean.send(20.0), mean.throw(ZeroDivisionError), mean.send(4.0)])
talk = conversation()
print([talk.send(said) for said in (None, "hello", "stop", "again")])
loop([task("a", 1), task("b", 2)])
