// Where a person is: the part of the address after #, which links and bookmarks keep.

/** The path's parts and the query of the address, or of another one. */
export function place(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** An address within the explorer: `at(["jobs", job], {q: "json"})`. */
export function at(parts, query = {}) {
  const kept = query instanceof URLSearchParams ? query : new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${parts.map(encodeURIComponent).join("/")}${kept.size ? `?${kept}` : ""}`;
}

/** The same place with another query, without a step in the browser's history. */
export function replaceQuery(query) {
  history.replaceState(history.state, "", at(place().parts, query));
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
