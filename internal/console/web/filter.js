// Which events a text finds: those that have all its words somewhere, in large or
// small letters. `avoqado-edge events tail --filter` finds the same
// (api.Record.Matches); the cases of both are internal/api/testdata/filter.json.
// The page's own names for events, in its language, are searched besides.
export function matches(e, text, name = "") {
  const all = [e.event, name, e.subject, e.actor, e.terminal, e.seq, e.id, JSON.stringify(e.payload)].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}
