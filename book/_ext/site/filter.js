/* The atlas: rows by words, tag, verdict, source and chapter. */
document.querySelectorAll("table.claims-table").forEach(table => {
  const rows = [...table.tBodies[0].rows];
  if (!rows[0]?.dataset.verdict) return;
  const bar = Object.assign(document.createElement("form"), {className: "filters"});
  bar.setAttribute("role", "search");
  bar.addEventListener("submit", event => event.preventDefault());
  const named = (name, field) => {
    const label = document.createElement("label");
    label.append(`${name} `, field);
    bar.append(label);
    return field;
  };
  const words = named("Words", Object.assign(document.createElement("input"), {type: "search"}));
  // sources and chapters by the words of their links, the rest by the values themselves
  const linked = (row, name) => ["ours", "folklore"].includes(row.dataset.source) && name === "Source"
    ? undefined : row.querySelector(`td[data-head="${name}"] a`)?.textContent.trim();
  const lists = ["Tag", "Verdict", "Source", "Chapter"].map(name => {
    const key = name.toLowerCase();
    const list = named(name, document.createElement("select"));
    list.append(new Option("all", ""));
    const words = new Map(rows.map(row => [row.dataset[key], linked(row, name) ?? row.dataset[key]]));
    words.forEach((text, value) => list.append(new Option(text, value)));
    return {key, list};
  });
  const count = Object.assign(document.createElement("output"), {textContent: `${rows.length} claims`});
  bar.append(count);
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/);
    let left = 0;
    rows.forEach(row => {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every(word => text.includes(word)) && lists.every(({key, list}) =>
        !list.value || row.dataset[key] === list.value));
      left += !row.hidden;
    });
    count.textContent = left === 1 ? "1 claim" : `${left} claims`;
  };
  bar.addEventListener("input", show);
  table.closest(".claims-scroll").before(bar);
});
