"""The smallest reference configuration, held for real: from committee file to the files that are published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fhe_noise import noise_of

from veil.fhe.combiner import ThresholdCombiner
from veil.fhe.decryptor import ThresholdDecryptor
from veil.fhe.encryptor import PublicKeyEncryptor
from veil.fhe.evaluator import ChildEvaluator
from veil.fhe.flooding import OUTPUT_NOISE_LOG2
from veil.fhe.ports import Figures
from veil.fhe.probe import reachable_classes
from veil.fhe.publickey import PublicKey
from veil.identity import Identity
from veil.mesh.blobs import BlobStore
from veil.node.committee import entry, read_committee, sign_report
from veil.node.dealing import hold
from veil.node.epoch_files import load_epoch
from veil.node.keyplan import KeyPlan, read_plan
from veil.node.publication import material_digests, material_of
from veil.types import ClusterId, Digest, Epoch, Secret

pytestmark = [pytest.mark.fhe, pytest.mark.timeout(240)]

PLAN = Path(__file__).parents[3] / "manifests" / "keys" / "small.yaml"
CLUSTER = ClusterId(b"c" * 32)
GIB = 1 << 30


class Told:
    def __init__(self) -> None:
        self.steps: list[str] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.steps.append(text)
        yield


@pytest.mark.parametrize("designated", [False, True], ids=["threshold", "designated"])
async def test_a_plan_becomes_an_epoch_that_decides(tmp_path: Path, designated: bool) -> None:
    plan = KeyPlan(threshold=1, mode="designated", parameters="plain", candidates=(4,)) if designated else read_plan(PLAN)
    assert plan.parameters == ("plain" if designated else "flooded")
    dealer = await reachable_classes(plan.parameters)
    peers = [Identity.generate() for _ in range(1 if designated else 3)]
    committee_file = tmp_path / "committee.yaml"
    head = "apiVersion: veil.dev/v1alpha1\nkind: Committee\nmetadata: {name: all}\nspec:\n  members:\n"
    committee_file.write_text(head + "".join(entry(one.peer_id, sign_report(one, CLUSTER, dealer)) for one in peers))
    committee = read_committee(committee_file, CLUSTER, {one.peer_id for one in peers})

    told, directory = Told(), tmp_path / "epoch"
    dealt = await hold(plan, committee, Epoch(7), dealer=dealer, directory=directory, progress=told)
    assert (len(told.steps), dealt.abstaining, dealt.epoch.mode) == (2, (), plan.mode)
    epoch, store = load_epoch(directory)
    assert (epoch, epoch.epoch, epoch.threshold) == (dealt.epoch, 7, plan.threshold)

    material = material_of(epoch, {digest: store.read(digest) for digest in material_digests(epoch)})
    shares = [Secret(one.open(store.read(Digest(sealed)))) for one, sealed in zip(peers, epoch.shares, strict=True)]
    encryptor = PublicKeyEncryptor(material.public_key, material.encoding)
    circuit = next(one for one in epoch.circuits if one.shape == "choose")
    asked = Figures(cpu_milli=2000, memory_bytes=4 * GIB, disk_bytes=0, gpu_count=0)
    free = [Figures(cpu_milli=cpu, memory_bytes=8 * GIB, disk_bytes=0, gpu_count=0) for cpu in (1000, 3000, 8000)]
    evaluator = ChildEvaluator(material)
    try:
        await evaluator.start()
        vectors = [encryptor.telemetry(one, None) for one in free]
        done = await evaluator.evaluate(circuit.name, encryptor.demand(asked), vectors)
    finally:
        await evaluator.close()
    quorum = tuple(range(1, min(plan.threshold + 1, len(peers)) + 1))
    partials = {member: ThresholdDecryptor(shares[member - 1]).partial(done.result, quorum) for member in quorum}
    opened = ThresholdCombiner(material.public_key, epoch.threshold).open(done.result, quorum, partials)
    assert opened.checked is (not designated)
    assert opened.bits[0] == 0, "what does not fit is not chosen"
    assert opened.bits[1] + opened.bits[2] >= 1
    assert opened.bits[-1] == 0
    noise = noise_of(shares, done.result, PublicKey.from_bytes(material.public_key).name, opened.bits)
    assert np.log2(np.abs(noise).max()) < OUTPUT_NOISE_LOG2[plan.parameters] + 3
    texts = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    assert not any(share.reveal()[200:264] in text for share in shares for text in texts), "a share lies bare on the disk"
    assert BlobStore(directory / "blobs").has(dealt.digest)
