"""What goes out in other projects' formats comes back the same, and is what those projects' own code expects."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.events.explanation import Evidence, FeatureOutcome
from mistudio_explain.events.feature import Activation, ActivationStatistics, Logit
from mistudio_explain.intake.formats.choice import read_input, read_said
from mistudio_explain.reporting import neuronpedia
from mistudio_explain.reporting.delphi import write_delphi
from mistudio_explain.reporting.neuronpedia import Target, write_neuronpedia
from unit.reporting.reporting_samples import explained, failed, hostile, skipped

AT_MS = 1_785_079_845_000


def with_tokens(feature_id: str, **changes: Any) -> FeatureOutcome:
    def text(*values: float) -> Activation:
        tokens = [" a", " JSON", " schema", f" {feature_id}"][: len(values)]
        return Activation(text="".join(tokens), activation_strength=max(values), tokens=tokens, token_activations=list(values))

    subject = {
        "source_id": "5-res-jb",
        "statistics": ActivationStatistics(max=4.5, frequency=0.002),
        "logits": [Logit(token=" json", value=1.5), Logit(token=" yaml", value=0.5), Logit(token=" sun", value=-2.0)],
    } | changes
    evidence = Evidence(seen=[text(0.0, 4.5, 1.0, 0.0), text(0.0, 2.5, 0.5)], held_out=[text(0.0, 3.5)])
    return explained(feature_id, subject_changes=subject, evidence=evidence)


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(f"*/*/{kind}/*.gz")) for line in gzip.decompress(path.read_bytes()).splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_neuronpedia_s_batches_come_back_as_the_features_and_explanations_that_went_out(tmp_path: Path) -> None:
    outcomes = [with_tokens("2"), with_tokens("30"), skipped("4"), failed("5")]
    written = write_neuronpedia(tmp_path, outcomes, AT_MS, Target())
    source = tmp_path / "gpt2" / "5-res-jb"
    assert sorted(files(source)) == ["activations/batch-0.jsonl.gz", "explanations/batch-0.jsonl.gz", "features/batch-0.jsonl.gz"]
    assert (written.features, written.explanations, written.texts, written.without_tokens, written.unnumbered) == (2, 2, 6, 0, [])
    said = read_said(source)
    back = {feature.feature_key: feature for feature in said.job.features()}
    for outcome in outcomes[:2]:
        feature = back[f"5-res-jb/{outcome.subject.feature_id}"]
        assert outcome.evidence is not None
        assert outcome.answer is not None
        sent = sorted([*outcome.evidence.seen, *outcome.evidence.held_out], key=lambda text: -(text.activation_strength or 0))
        assert feature.top_activations == sent
        assert (feature.top_logits, feature.activation_statistics) == (outcome.subject.logits, outcome.subject.statistics)
        assert said.explanations[feature.feature_key] == [outcome.answer.pattern]
    assert (said.silent, said.strangers) == (0, [])


def test_records_for_neuronpedia_have_25_character_ids_and_name_the_feature_by_model_layer_and_index_as_text(tmp_path: Path) -> None:
    write_neuronpedia(tmp_path, [with_tokens("2"), with_tokens("30")], AT_MS, Target(model_id="gpt2-small", creator_id="c" * 25))
    ids = [line["id"] for kind in ("activations", "explanations") for line in lines(tmp_path, kind)]
    assert {len(one) for one in ids} == {25}
    assert len(set(ids)) == len(ids) == 8
    for kind in ("features", "activations", "explanations"):
        records = lines(tmp_path, kind)
        assert {(line["modelId"], line["layer"], line["index"]) for line in records} == {("gpt2-small", "5-res-jb", "2"), ("gpt2-small", "5-res-jb", "30")}
        assert {tuple(line) for line in records} == {tuple(records[0])}, "Neuronpedia's import takes the members of a file's first line for all"
        assert {line.get("creatorId", line.get("authorId")) for line in records} == {"c" * 25}


def test_names_that_explanations_refer_to_are_written_for_neuronpedia_s_tables(tmp_path: Path) -> None:
    write_neuronpedia(tmp_path, [with_tokens("2")], AT_MS, Target())
    (line,) = lines(tmp_path, "explanations")
    methods = [json.loads(each)["name"] for each in (tmp_path / "config" / "explanation_type.jsonl").read_text().splitlines()]
    models = [json.loads(each)["name"] for each in (tmp_path / "config" / "explanation_model_type.jsonl").read_text().splitlines()]
    assert ([line["typeName"]], [line["explanationModelName"]]) == (methods, models) == (["mistudio-explain"], ["llama3.1:8b"])


def test_batches_hold_so_many_features_and_the_same_outcomes_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuronpedia, "BATCH", 2)
    outcomes = [with_tokens(str(number)) for number in range(5)] + [with_tokens("0", source_id="6-res-jb")]
    for name in ("one", "two"):
        write_neuronpedia(tmp_path / name, iter(outcomes), AT_MS, Target())
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one" / "gpt2" / "5-res-jb" / "features").iterdir()) == [f"batch-{n}.jsonl.gz" for n in range(3)]
    assert [line["index"] for line in lines(tmp_path / "one", "features")] == ["0", "1", "2", "3", "4", "0"]
    assert read_input(tmp_path / "one" / "gpt2" / "5-res-jb").total == 5


def test_what_neuronpedia_has_no_place_for_is_counted_not_invented(tmp_path: Path) -> None:
    written = write_neuronpedia(tmp_path, [explained("colors"), explained("7")], AT_MS, Target())
    assert (written.features, written.texts, written.without_tokens, written.unnumbered) == (1, 0, 3, ["colors"])
    assert lines(tmp_path, "activations") == []


def test_delphi_s_folder_comes_back_as_the_explanations_that_went_out(tmp_path: Path) -> None:
    outcomes = [with_tokens("2"), with_tokens("30"), skipped("4")]
    assert write_delphi(tmp_path / "delphi", outcomes).explanations == 2
    assert sorted(files(tmp_path / "delphi")) == ["explanations/5-res-jb_latent2.txt", "explanations/5-res-jb_latent30.txt"]
    write_neuronpedia(tmp_path / "np", outcomes, AT_MS, Target())
    said = read_said(tmp_path / "delphi", features=tmp_path / "np" / "gpt2" / "5-res-jb")
    assert said.explanations == {"5-res-jb/2": ["It fires on JSON schemas."], "5-res-jb/30": ["It fires on JSON schemas."]}


@pytest.mark.parametrize("name", ["../../evil", "..", "/etc", "a\\b", "C:evil", "con\x00"])
def test_no_name_of_a_model_or_source_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    outcomes = [with_tokens("2", target_model=name, source_id=name)]
    write_neuronpedia(tmp_path / "np", outcomes, AT_MS, Target())
    write_delphi(tmp_path / "delphi", outcomes)
    assert {path.parts[0] for path in (Path(each) for each in files(tmp_path))} == {"np", "delphi"}
    assert len(lines(tmp_path / "np", "explanations")) == 1
    assert len(list((tmp_path / "delphi" / "explanations").iterdir())) == 1


def test_hostile_texts_come_back_as_they_were(tmp_path: Path) -> None:
    outcomes = [outcome for outcome in hostile() if outcome.answer is not None]
    write_neuronpedia(tmp_path, outcomes, AT_MS, Target())
    write_delphi(tmp_path, outcomes)
    assert [line["description"] for line in lines(tmp_path, "explanations")] == [outcome.answer.pattern for outcome in outcomes if outcome.answer]
    for outcome in outcomes:
        (path,) = (tmp_path / "explanations").glob(f"*_latent{outcome.subject.feature_id}.txt")
        assert outcome.answer is not None
        assert json.loads(path.read_bytes()) == outcome.answer.pattern
