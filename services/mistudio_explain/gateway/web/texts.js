// Cuts a feature's text into pieces: each token's activation where the source gave it, the peak, and words that speak for a hazard.
// Nothing is guessed: a token without a place in the text is listed beside it, and a text without tokens is shown plain.

const WORD = 20; // characters within which a cut looks for the edge of a word; languages without spaces have none
const AROUND = 150; // characters either side of the peak, as many as two lines of a card hold

/**
 * A text's pieces in order: `{text, value, isPeak, hazard}`, `value` absent where the source gave none.
 * `hazards` are `{category, words}`; `window` is what `around` made, or absent for the whole text.
 */
export function pieces(activation, hazards = [], window = null) {
  const text = activation.text;
  const tokens = tokenSpans(activation);
  const peak = peakSpan(activation, tokens);
  const dangers = hazards.flatMap((hazard) => wordSpans(text, hazard));
  const [from, to] = window ?? [0, text.length];
  const cuts = new Set([from, to]);
  for (const span of [...tokens, ...(peak ? [peak] : []), ...dangers]) {
    for (const cut of [span.start, span.end]) if (cut > from && cut < to) cuts.add(cut);
  }
  const edges = [...cuts].sort((a, b) => a - b);
  const found = [];
  for (let i = 0; i + 1 < edges.length; i++) {
    const within = (span) => span.start <= edges[i] && edges[i + 1] <= span.end;
    const token = at(tokens, edges[i]);
    found.push({
      text: text.slice(edges[i], edges[i + 1]),
      value: token?.value,
      isPeak: peak !== null && within(peak),
      hazard: dangers.find(within)?.category,
    });
  }
  return found;
}

/** The part of a text round its peak, or its beginning where the source left the peak's place open; null when that is the whole text. */
export function around(activation) {
  const peak = peakSpan(activation, tokenSpans(activation));
  const [from, to] = peak ? [peak.start - AROUND, peak.end + AROUND] : [0, 2 * AROUND];
  const start = from <= 0 ? 0 : after(activation.text, from, peak ? peak.start : to);
  const end = to >= activation.text.length ? activation.text.length : before(activation.text, to, peak ? peak.end : from);
  return start === 0 && end === activation.text.length ? null : [start, end];
}

/** Tokens that the source says fire, but whose place in the text it leaves open: `{token, value}`. */
export function unplaced(activation) {
  if (activation.token_activations) {
    if (tokenSpans(activation).length > 0) return [];
    return activation.tokens.map((token, i) => ({ token, value: activation.token_activations[i] })).filter((each) => each.value > 0);
  }
  const open = (activation.active_tokens ?? []).filter((each) => onlyPlace(activation.text, each.token) === null);
  return open.map((each) => ({ token: each.token, value: each.strength }));
}

/** The peak token where its place is left open; null where it is shown in the text, or not known. */
export function unplacedPeak(activation) {
  return activation.peak && peakSpan(activation, tokenSpans(activation)) === null ? activation.peak : null;
}

/** The greatest activation of any token of these texts; 0 when none is given. */
export function greatest(activations) {
  let most = 0;
  for (const activation of activations) {
    for (const value of activation.token_activations ?? []) most = Math.max(most, value);
    for (const token of activation.active_tokens ?? []) most = Math.max(most, token.strength);
  }
  return most;
}

function tokenSpans(activation) {
  if (!activation.tokens || !activation.token_activations) {
    return (activation.active_tokens ?? [])
      .map((each) => ({ ...onlyPlace(activation.text, each.token), value: each.strength }))
      .filter((span) => span.start !== undefined)
      .sort((a, b) => a.start - b.start);
  }
  const joined = activation.tokens.join("");
  const shift = joined.indexOf(activation.text);
  if (shift < 0) return [];
  let end = -shift;
  const spans = activation.tokens.map((token, i) => ({ start: end, end: (end += token.length), value: activation.token_activations[i] }));
  return spans.filter((span) => span.end > 0 && span.start < activation.text.length);
}

function peakSpan(activation, tokens) {
  if (activation.token_activations) {
    const most = Math.max(...activation.token_activations);
    const place = most > 0 ? tokens.find((span) => span.value === most) : undefined;
    if (place) return place;
  }
  return activation.peak ? onlyPlace(activation.text, activation.peak) : null;
}

/** Where a token stands, when the text leaves no doubt of it. */
function onlyPlace(text, token) {
  const start = token ? text.indexOf(token) : -1;
  if (start < 0 || text.indexOf(token, start + 1) >= 0) return null;
  return { start, end: start + token.length };
}

function wordSpans(text, { category, words }) {
  const spans = [];
  for (const word of words) {
    const spoken = word.trim().split(/\s+/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
    if (!spoken) continue;
    for (const hit of text.matchAll(new RegExp(`(?<![\\p{L}\\p{N}])${spoken}(?![\\p{L}\\p{N}])`, "giu"))) {
      spans.push({ start: hit.index, end: hit.index + hit[0].length, category });
    }
  }
  return spans;
}

/** The span that holds a place; spans are in order and may leave gaps. */
function at(spans, place) {
  let low = 0;
  let high = spans.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (place < spans[middle].start) high = middle - 1;
    else if (place >= spans[middle].end) low = middle + 1;
    else return spans[middle];
  }
  return undefined;
}

/** The next beginning of a word, where one is near; never between the two halves of a character. */
function after(text, place, last) {
  const word = text.slice(place, Math.min(place + WORD, last)).search(/(?<=\s)\S/);
  if (word >= 0) return place + word;
  return isHalf(text, place) ? place + 1 : place;
}

/** The end of the word before, likewise. */
function before(text, place, first) {
  const start = Math.max(place - WORD, first);
  const word = text.slice(start, place).search(/\s\S*$/);
  if (word >= 0) return start + word;
  return isHalf(text, place) ? place - 1 : place;
}

function isHalf(text, place) {
  const code = text.charCodeAt(place);
  return code >= 0xdc00 && code <= 0xdfff;
}
