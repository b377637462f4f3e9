import threading
import time

from search.display.line_writer import Lines


def test_lines_come_in_order_and_are_all_there_after_closing():
    written = []
    lines = Lines(written.append)
    for number in range(1000):
        lines.put(number)
    lines.close()
    assert written == list(range(1000))
    lines.put("more")
    lines.close()
    lines.close()
    assert written[-1] == "more"


def test_lines_of_many_threads_are_written_one_at_a_time():
    inside, clashes, written = threading.Lock(), [], []

    def write(line):
        clashes.append(not inside.acquire(blocking=False))
        written.append(line)
        inside.release()

    lines = Lines(write)
    threads = [threading.Thread(target=lambda: [lines.put(n) for n in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()
    assert not any(clashes)
    assert sorted(written) == sorted(list(range(50)) * 8)


def test_a_slow_reader_holds_nobody_up():
    gate = threading.Event()
    lines = Lines(lambda line: gate.wait(10))
    for _ in range(100):
        lines.put("x")
    assert not gate.is_set()
    gate.set()
    lines.close()


def test_a_pipe_without_a_reader_ends_the_writing_and_a_bad_character_one_line():
    written = []

    def write(line):
        if line == "gone":
            raise BrokenPipeError
        if line == "×":
            raise UnicodeEncodeError("ascii", line, 0, 1, "no")
        written.append(line)

    lines = Lines(write)
    for line in ("a", "×", "b", "gone", "c"):
        lines.put(line)
    lines.close()
    assert written == ["a", "b"]


def test_silence_is_broken():
    beats = threading.Semaphore(0)
    lines = Lines(lambda line: None, quiet=beats.release, every=0.02)
    lines.put("first")
    assert beats.acquire(timeout=10)
    assert beats.acquire(timeout=10)
    lines.close()
    while beats.acquire(blocking=False):
        pass
    time.sleep(0.1)
    assert not beats.acquire(blocking=False)
