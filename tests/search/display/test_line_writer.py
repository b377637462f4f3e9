import threading
import time

from search.display.line_writer import LineWriter


def test_close_waits_until_all_lines_are_written_in_order():
    written = []
    writer = LineWriter(written.append)
    for number in range(1000):
        writer.put(number)
    writer.close()
    assert written == list(range(1000))
    writer.put("more")
    writer.close()
    writer.close()
    assert written[-1] == "more"


def test_lines_from_many_threads_are_written_one_at_a_time():
    inside, clashes, written = threading.Lock(), [], []

    def write(line):
        clashes.append(not inside.acquire(blocking=False))
        written.append(line)
        inside.release()

    writer = LineWriter(write)
    threads = [threading.Thread(target=lambda: [writer.put(n) for n in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert not any(clashes)
    assert sorted(written) == sorted(list(range(50)) * 8)


def test_put_does_not_wait_for_a_slow_reader():
    gate = threading.Event()
    writer = LineWriter(lambda line: gate.wait(10))
    for _ in range(100):
        writer.put("x")
    assert not gate.is_set()
    gate.set()
    writer.close()


def test_an_os_error_drops_all_further_lines_and_a_bad_character_drops_one():
    written = []

    def write(line):
        if line == "gone":
            raise BrokenPipeError
        if line == "×":
            raise UnicodeEncodeError("ascii", line, 0, 1, "no")
        written.append(line)

    writer = LineWriter(write)
    for line in ("a", "×", "b", "gone", "c"):
        writer.put(line)
    writer.close()
    assert written == ["a", "b"]


def test_on_silence_is_called_repeatedly_until_close():
    beats = threading.Semaphore(0)
    writer = LineWriter(lambda line: None, on_silence=beats.release, silence_seconds=0.02)
    writer.put("first")
    assert beats.acquire(timeout=10)
    assert beats.acquire(timeout=10)
    writer.close()
    while beats.acquire(blocking=False):
        pass
    time.sleep(0.1)
    assert not beats.acquire(blocking=False)
