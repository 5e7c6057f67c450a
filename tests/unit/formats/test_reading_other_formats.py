"""Features of other projects' formats come in with what their sources say, and with nothing else."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mistudio_explain.cli.compare_features import siblings_of
from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import Tier
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.intake.formats.choice import read_input
from mistudio_explain.intake.single import read_single
from mistudio_explain.intake.stage import FindJob

SAMPLES = Path(__file__).parents[2] / "data" / "formats"
EXPORT = SAMPLES / "neuronpedia" / "0-res-jb"
BATCH = SAMPLES / "saedashboard" / "batch-1.json.gz"
NEURONS = SAMPLES / "openai" / "neurons.jsonl"
LINES = SAMPLES / "jsonl" / "features.jsonl"


def batch() -> Any:
    return json.loads(gzip.decompress(BATCH.read_bytes()))


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def by_key(job: FindJob) -> dict[str, FeatureFound]:
    return {feature.feature_key: feature for feature in job.features()}


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def api_answer() -> Any:
    """The first feature of the export in the form of Neuronpedia's API."""
    feature = rows(EXPORT / "features" / "batch-1.jsonl.gz")[0]
    texts = [row for row in rows(EXPORT / "activations" / "batch-1.jsonl.gz") if row["index"] == feature["index"]]
    explanations = [{"id": "clu1", "description": "medical imaging", "explanationModelName": "gpt-4o-mini", "typeName": "oai_token-act-pair", "scores": []}]
    return {**feature, "index": str(feature["index"]), "activations": texts, "explanations": explanations, "comments": [], "lists": []}


def test_a_batch_of_saedashboard_keeps_tokens_values_logits_and_density() -> None:
    source = batch()["features"][0]
    feature = by_key(read_input(BATCH))["0-res-jb/2"]
    ascii_text = next(each for each in source["activations"] if max(each["values"]) > 0 and "".join(each["tokens"]).isascii())
    (read,) = {text.text: text for text in feature.top_activations if text.text == "".join(ascii_text["tokens"])}.values()
    assert (feature.target_model, feature.source_id, feature.feature_id) == ("gpt2-small", "0-res-jb", "2")
    assert read.activation_strength == max(ascii_text["values"])
    assert (read.tokens, read.token_activations) == (ascii_text["tokens"], ascii_text["values"])
    assert feature.activation_statistics is not None
    assert feature.activation_statistics.frequency == source["frac_nonzero"]
    assert [(logit.token, logit.value) for logit in feature.top_logits or []][:2] == list(zip(source["pos_str"], source["pos_values"], strict=True))[:2]
    assert {logit.value for logit in feature.top_logits or []} == {*source["pos_values"], *source["neg_values"]}


def test_texts_come_strongest_first_and_those_in_which_the_feature_is_silent_do_not_come() -> None:
    for feature in read_input(BATCH).features():
        strengths = [text.activation_strength or 0 for text in feature.top_activations]
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths) > 0


def test_a_text_drawn_from_a_lower_bin_says_so() -> None:
    contexts = {text.context for text in by_key(read_input(BATCH))["0-res-jb/2"].top_activations}
    assert None in contexts
    assert any(context and context.startswith("drawn from the interval ") for context in contexts)


def test_neuronpedia_s_export_gives_the_same_features_as_the_batch_it_was_made_of() -> None:
    exported, direct = by_key(read_input(EXPORT)), by_key(read_input(BATCH))
    assert exported.keys() == direct.keys()
    for key, feature in exported.items():
        assert feature.top_activations == direct[key].top_activations
        assert feature.top_logits == direct[key].top_logits
        assert feature.activation_statistics is not None
        assert feature.activation_statistics.max == feature.top_activations[0].activation_strength


def test_an_export_s_lines_are_put_together_wherever_they_stand(tmp_path: Path) -> None:
    """Neuronpedia cuts features by the order of their texts and activations by number, so that batches of one number hold others."""
    texts = rows(EXPORT / "activations" / "batch-1.jsonl.gz")
    features = [{**row, "index": str(row["index"])} for row in rows(EXPORT / "features" / "batch-1.jsonl.gz")]
    for number, some in enumerate((texts[1::2], texts[::2])):
        lines = "".join(json.dumps({**row, "index": str(row["index"])}) + "\n" for row in some)
        (tmp_path / "activations").mkdir(exist_ok=True)
        (tmp_path / "activations" / f"batch-{number}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "batch-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(features)))
    shuffled, straight = by_key(read_input(tmp_path)), by_key(read_input(EXPORT))
    assert {key: len(feature.top_activations) for key, feature in shuffled.items()} == {key: len(feature.top_activations) for key, feature in straight.items()}
    assert {key: feature.top_logits for key, feature in shuffled.items()} == {key: feature.top_logits for key, feature in straight.items()}


@pytest.mark.parametrize("listed", [False, True])
def test_features_as_neuronpedia_s_api_gives_them_are_read_alone_or_in_a_list(tmp_path: Path, listed: bool) -> None:
    answer = api_answer()
    job = read_input(written(tmp_path / "feature.json", [answer] if listed else answer))
    (feature,) = job.features()
    assert feature == by_key(read_input(EXPORT))[feature.feature_key].model_copy(update={"find_job_id": job.find_job_id})


def test_openai_s_neurons_keep_each_token_s_activation_and_belong_to_the_model_that_is_named() -> None:
    job = read_input(NEURONS, target_model="gpt2-xl")
    source = json.loads(NEURONS.read_text().splitlines()[0])["most_positive_activation_records"]
    feature = by_key(job)["0/0"]
    strongest = max(source, key=lambda each: max(each["activations"]))
    assert (job.target_model, job.total) == ("gpt2-xl", 6)
    assert (feature.top_activations[0].tokens, feature.top_activations[0].token_activations) == (strongest["tokens"], strongest["activations"])
    with pytest.raises(BadInput, match=r"neurons\.jsonl.*--target-model"):
        read_input(NEURONS)


def test_lines_of_json_give_their_texts_with_peaks_and_values() -> None:
    record = json.loads(LINES.read_text().splitlines()[0])
    feature = by_key(read_input(LINES))[f"{record['layer']}/{record['feature_id']}"]
    assert [text.text for text in feature.top_activations] == [text["text"] for text in record["activations"]]
    assert feature.top_activations[0].token_activations == record["activations"][0]["values"]
    assert feature.top_activations[0].peak == record["activations"][0]["peak"]


@pytest.mark.parametrize(
    ("path", "model"), [(EXPORT, None), (BATCH, None), (NEURONS, "gpt2-xl"), (LINES, None)], ids=["neuronpedia", "saedashboard", "openai", "jsonl"]
)
def test_coherence_and_keywords_are_computed_marked_and_leave_the_tier_unknown(path: Path, model: str | None) -> None:
    job = read_input(path, target_model=model)
    for feature in job.features():
        assert "coherence_score" in feature.computed
        assert ("pattern_keywords" in feature.computed) == bool(feature.pattern_keywords)
        assert feature.stated_coherence is None
    assert job.distribution.tiers[Tier.UNKNOWN] == job.total
    assert any("computed" in note for note in job.notes)


@pytest.mark.parametrize(
    ("path", "seen"),
    [(EXPORT, "neuronpedia"), (BATCH, "saedashboard"), (NEURONS, "openai"), (LINES, "jsonl")],
    ids=["neuronpedia", "saedashboard", "openai", "jsonl"],
)
def test_auto_says_as_what_it_read_an_input(path: Path, seen: str) -> None:
    job = read_input(path, target_model="gpt2-xl" if seen == "openai" else None)
    assert job.shape == seen
    assert job.notes[0].startswith(f"read as {seen}: ")
    named = read_input(path, seen, target_model="gpt2-xl" if seen == "openai" else None)
    assert not any(note.startswith("read as") for note in named.notes)
    assert by_key(named) == by_key(job)


def test_the_same_input_is_the_same_job_and_another_batch_of_the_source_is_another() -> None:
    assert read_input(EXPORT).find_job_id == read_input(EXPORT).find_job_id == "find_gpt2-small_0-res-jb"
    assert read_input(BATCH).find_job_id == "find_gpt2-small_0-res-jb_batch-1"
    assert read_input(BATCH, find_job_id="find_mine").find_job_id == "find_mine"


def test_every_feature_bears_the_request_each_time_it_is_asked_for() -> None:
    job = read_input(BATCH)
    request = JobRequest(explain_job_id="explain_1")
    assert [feature.request for feature in job.features(request)] == [request, request]
    assert [feature.feature_key for feature in job.features()] == [feature.feature_key for feature in job.features(request)]


def test_a_feature_that_fires_nowhere_is_told_and_left_out(tmp_path: Path) -> None:
    content = batch()
    for text in content["features"][0]["activations"]:
        text["values"] = [0.0] * len(text["values"])
    job = read_input(written(tmp_path / "batch-0.json", content))
    assert [feature.feature_id for feature in job.features()] == ["3"]
    assert "1 features fire in no text and are left out" in job.notes


def test_a_feature_too_large_for_an_event_loses_its_weakest_texts_and_says_so() -> None:
    whole, cut = by_key(read_input(BATCH)), read_input(BATCH, event_bytes=20_000)
    for feature in cut.features():
        texts = whole[feature.feature_key].top_activations
        assert 0 < len(feature.top_activations) < len(texts)
        assert feature.top_activations == texts[: len(feature.top_activations)]
    assert any("lost their weakest texts" in note for note in cut.notes)


Spoil = Callable[[Any], object]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda b: b["features"][1]["activations"][4]["values"].pop(), r"\$\.features\[1\]\.activations\[4\]\.values: \d+ values, where \d+ were expected"),
        (
            lambda b: b["features"][0]["activations"][2]["tokens"].__setitem__(7, 7),
            r"\$\.features\[0\]\.activations\[2\]\.tokens\[7\]: the number 7, where a text",
        ),
        (lambda b: b["features"][0].pop("feature_index"), r"\$\.features\[0\]\.feature_index: nothing, where "),
        (lambda b: b["features"][0].update(pos_values=[1.0]), r"\$\.features\[0\]\.pos_values: 1 values, where 10 were expected: one for each of pos_str"),
        (lambda b: b["features"][1].update(feature_index=2), r"\$\.features\[1\]: feature '0-res-jb/2' stands twice"),
        (lambda b: b["features"][1].update(feature_index="a|b"), r"\$\.features\[1\]\.feature_id: the text 'a\|b', where 1 to 200 characters"),
        (lambda b: b.update(features={}), r"\$\.features: no list; a list of features was expected"),
        (lambda b: b.update(features=[]), r"has no feature"),
        (lambda b: b.update(model_id=""), r"does not name the target model; say which one it is with --target-model"),
    ],
)
def test_a_wrong_batch_is_refused_with_the_place_and_what_was_expected(tmp_path: Path, spoil: Spoil, expected: str) -> None:
    content = batch()
    spoil(content)
    path = written(tmp_path / "batch-0.json", content)
    with pytest.raises(BadInput, match=expected) as refused:
        read_input(path)
    assert str(refused.value).startswith(str(path))


def test_a_wrong_line_is_refused_with_its_number_and_left_out_with_keep_going(tmp_path: Path) -> None:
    lines = LINES.read_text().splitlines()
    path = tmp_path / "features.jsonl"
    path.write_text("\n".join([lines[0], "", lines[1][:-40], lines[2].replace('"values": [', '"values": [NaN, ', 1), lines[3]]))
    with pytest.raises(BadInput) as refused:
        read_input(path)
    told = str(refused.value).splitlines()
    assert told[0].startswith(f"{path}: line 3: $: ")
    assert told[1].startswith(f"{path}: line 4: $.activations[0].values[0]: nan is no JSON number")
    job = read_input(path, keep_going=True)
    assert (job.total, job.left_out, len(job.problems)) == (2, 2, 2)


def test_a_batch_cut_in_the_middle_or_packed_badly_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch-0.json"
    path.write_text(json.dumps(batch())[:100_000])
    with pytest.raises(BadInput, match="truncated"):
        read_input(path)
    packed = tmp_path / "batch-0.json.gz"
    packed.write_bytes(BATCH.read_bytes()[:10_000])
    with pytest.raises(BadInput, match="cannot be read"):
        read_input(packed, "saedashboard")


def test_lines_of_several_models_need_one_to_be_chosen(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in LINES.read_text().splitlines()]
    lines[0]["model"] = "gpt2"
    path = tmp_path / "features.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadInput, match=r"several models: 'gpt2' \(1\), 'EleutherAI/pythia-70m-deduped' \(3\)"):
        read_input(path)
    job = read_input(path, target_model="gpt2")
    assert (job.total, job.target_model, job.problems) == (1, "gpt2", ())
    assert "3 features of other models are not part of the job" in job.notes


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="one of auto, find, neuronpedia, saedashboard, openai, jsonl was expected"):
        read_input(BATCH, "csv")


@pytest.mark.parametrize(("path", "key"), [(EXPORT, "3"), (BATCH, "0-res-jb/3")])
def test_one_feature_of_another_format_is_read_alone_with_the_others_to_tell_it_apart_from(path: Path, key: str) -> None:
    single = read_single(path, key)
    assert single.feature == by_key(read_input(path))["0-res-jb/3"]
    assert [feature.feature_id for feature in single.job] == ["2", "3"]


@pytest.mark.parametrize("path", [EXPORT, BATCH, LINES])
def test_similar_features_are_compared_in_any_format(path: Path) -> None:
    assert {sibling.feature.feature_key for sibling in siblings_of(path, None, None)} == by_key(read_input(path)).keys()


def test_a_folder_of_openai_s_layers_is_one_job(tmp_path: Path) -> None:
    records = [json.loads(line) for line in NEURONS.read_text().splitlines()]
    for record in records:
        record["neuron_id"]["layer_index"] = record["neuron_id"]["neuron_index"] % 2
        neuron = record["neuron_id"]
        written(tmp_path / "neurons" / str(neuron["layer_index"]) / f"{neuron['neuron_index']}.json", record)
    job = read_input(tmp_path / "neurons", target_model="gpt2-xl")
    assert {feature.feature_key for feature in job.features()} == {f"{number % 2}/{number}" for number in range(6)}
    assert (job.shape, job.find_job_id) == ("openai", "find_neurons")


def test_one_batch_of_activations_is_read_with_the_features_beside_it() -> None:
    job = read_input(EXPORT / "activations" / "batch-1.jsonl.gz")
    assert {key: feature.top_logits for key, feature in by_key(job).items()} == {key: feature.top_logits for key, feature in by_key(read_input(EXPORT)).items()}
    assert job.find_job_id == "find_gpt2-small_0-res-jb_batch-1"
