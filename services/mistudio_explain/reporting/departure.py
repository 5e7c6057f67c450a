"""Whether anything of a job left the machine, said in a sentence that is true."""

from mistudio_explain.events.job import JobReport
from mistudio_explain.reporting.survey import Survey

WHAT_IS_SENT = "each prompt holds the texts that the explainer saw, the feature's keywords and promoted tokens, and texts of similar features"


def departure(report: JobReport, figures: Survey) -> str:
    """What left the machine, by the ledger, by the endpoints that answered, and by what the aggregator is configured with."""
    if report.sent_to_cloud:
        places = "; ".join(
            f"{sent.features} {'feature' if sent.features == 1 else 'features'} to {sent.model} at {sent.endpoint}{f' ({sent.url})' if sent.url else ''}"
            for sent in report.sent_to_cloud
        )
        return f"Prompts left for a cloud: {places}. What was sent: {WHAT_IS_SENT}."
    if kept := figures.origin.reaches.get("cloud", 0):
        return f"Nothing of this job was sent to a cloud; {kept} of its answers were kept from earlier calls there."
    if figures.origin.reaches.get("unknown", 0):
        return "Where some of the models are that answered was not recorded, so nothing can be said of what left the machine."
    if report.beyond_machine or figures.origin.reaches.get("network", 0):
        through = f": {', '.join(report.beyond_machine)}" if report.beyond_machine else ""
        return f"Nothing was sent to a cloud. Features passed through other machines of the operator{through}."
    return "Nothing left this machine."
