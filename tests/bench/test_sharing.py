"""What forked workers share, as usnet-bench sharing measures it."""

from __future__ import annotations

from support.privilege import may_look_into_processes

from usnet_framework.bench import sharing


@may_look_into_processes
def test_a_forked_worker_has_a_third_of_a_spawned_ones_memory_for_itself() -> None:
    measured = sharing.run(requests=1000)
    assert measured.ratio <= 1 / 3
    assert f"{measured.ratio:.2f}" in measured.to_text()
