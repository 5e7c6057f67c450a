// Cuts a feature's text into pieces: each token's activation where the source gave it, the peak, and words that speak for a hazard.
// Nothing is guessed: a token without a place in the text is listed beside it, and a text without tokens is shown plain.

const WORD = 20; // characters within which a cut looks for the edge of a word; languages without spaces have none
const AROUND = 150; // characters either side of the peak, as many as two lines of a card hold

/**
 * A text's pieces in order: `{text, value, isLast, isPeak, hazard}`, `value` absent where the source gave none, `isLast` for the
 * one that ends its token.
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
      isLast: token?.end === edges[i + 1],
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
  return placed(activation).filter((each) => each.span === null && each.value > 0).sort((a, b) => b.value - a.value);
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
  const there = placed(activation).filter((each) => each.span !== null && each.span.end > 0 && each.span.start < activation.text.length);
  return there.map(({ span, value }) => ({ ...span, value })).sort((a, b) => a.start - b.start);
}

/** The tokens that have a value, `{token, value, span}`; `span` is null where the text leaves open where a token stands. */
function placed({ text, tokens, token_activations: values, active_tokens: active }) {
  if (!tokens || !values) return (active ?? []).map((each) => ({ token: each.token, value: each.strength, span: onlyPlace(text, each.token) }));
  const spans = spansOf(text, tokens);
  return tokens.map((token, i) => ({ token, value: values[i], span: spans[i] }));
}

/**
 * Where tokens stand in a text that they make up. Some do not make it up quite: a character may be spread over tokens, and
 * marks of a conversation are no text. Then those that fit without a gap from its beginning, and from its end, are placed,
 * and those that stand once both in the text and among the tokens.
 */
function spansOf(text, tokens) {
  const spans = tokens.map(() => null);
  const shift = tokens.join("").indexOf(text);
  if (shift >= 0) {
    let end = -shift;
    return tokens.map((token) => ({ start: end, end: (end += token.length) }));
  }
  let [first, last] = [0, tokens.length - 1];
  while (first <= last && !text.includes(tokens[first])) first++;
  let start = 0;
  for (; first <= last && text.startsWith(tokens[first], start); first++) spans[first] = { start, end: (start += tokens[first].length) };
  while (first <= last && !text.includes(tokens[last])) last--;
  let end = text.length;
  for (; first <= last; last--) {
    const begin = end - tokens[last].length;
    if (begin < start || !text.startsWith(tokens[last], begin)) break;
    spans[last] = { start: begin, end };
    end = begin;
  }
  for (let i = first; i <= last; i++) {
    const only = tokens.indexOf(tokens[i]) === i && tokens.lastIndexOf(tokens[i]) === i ? onlyPlace(text, tokens[i]) : null;
    if (only && only.start >= start && only.end <= end) spans[i] = only;
  }
  return spans;
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
