"""What was answered outlives the process that asked."""

import pytest

from engine.steer.steerability.log import KeptAnswer, KeptDamage, KeptVerdict, Log

ANSWER = KeptAnswer("a", "steered", 5, "red fish", "1.png", "what is it", 'a "red"\nfish \u2028 \x1b[31m')
DAMAGE = KeptDamage("a", None, None, "what is it", 0.25)
VERDICT = KeptVerdict("v", "text", "appeared", "red", "what is it", "a fish", None, score=0.5)


def test_records_come_back_by_kind_and_key(tmp_path):
    path = tmp_path / "s--m" / "answers.jsonl"
    log = Log(path)
    for one in (ANSWER, DAMAGE, VERDICT):
        log.add(one)
    log.close()
    assert b"\x1b" not in path.read_bytes() and len(path.read_bytes().splitlines()) == 3
    again = Log(path)
    assert again.get(KeptAnswer, "a") == ANSWER
    assert again.get(KeptDamage, "a") == DAMAGE and again.get(KeptVerdict, "v") == VERDICT
    assert again.get(KeptVerdict, "a") is None
    again.close()


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_a_kill_tore_is_asked_again(tmp_path, cut):
    path = tmp_path / "answers.jsonl"
    log = Log(path)
    log.add(DAMAGE)
    log.add(ANSWER)
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    log = Log(path)
    assert log.get(KeptDamage, "a") == DAMAGE
    assert log.get(KeptAnswer, "a") == (ANSWER if cut == 1 else None), "but for its end of line it is whole"
    log.add(VERDICT)
    log.add(ANSWER)
    log.close()
    log = Log(path)
    assert log.get(KeptVerdict, "v") == VERDICT and log.get(KeptAnswer, "a") == ANSWER
    log.close()


def test_a_line_with_a_flipped_bit_says_nothing(tmp_path):
    path = tmp_path / "answers.jsonl"
    log = Log(path)
    log.add(ANSWER)
    log.add(DAMAGE)
    log.close()
    written = bytearray(path.read_bytes())
    for at in range(0, written.index(b"\n"), 7):
        flipped = bytearray(written)
        flipped[at] ^= 4
        path.write_bytes(flipped)
        log = Log(path)
        assert log.get(KeptAnswer, "a") is None and log.get(KeptDamage, "a") == DAMAGE
        log.close()
