/* The atlas: rows by words, tag, verdict and chapter. */
document.querySelectorAll("table.claims-table").forEach(table => {
  const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
  if (heads[0] !== "Claim" || !heads.includes("Verdict")) return;
  const rows = [...table.tBodies[0].rows];
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
  const lists = ["Tag", "Verdict", "Chapter"].map(name => {
    const at = heads.indexOf(name);
    const list = named(name, document.createElement("select"));
    list.append(new Option("all", ""));
    [...new Set(rows.map(row => row.cells[at].textContent.trim()))].forEach(value =>
      list.append(new Option(value, value)));
    return {at, list};
  });
  const count = Object.assign(document.createElement("output"), {textContent: `${rows.length} claims`});
  bar.append(count);
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/);
    let left = 0;
    rows.forEach(row => {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every(word => text.includes(word)) && lists.every(({at, list}) =>
        !list.value || row.cells[at].textContent.trim() === list.value));
      left += !row.hidden;
    });
    count.textContent = left === 1 ? "1 claim" : `${left} claims`;
  };
  bar.addEventListener("input", show);
  table.closest(".claims-scroll").before(bar);
});
