/* A statement shown beside a link to it; the search page's excerpts and its list of claims. */
(() => {
  const root = document.documentElement.dataset.content_root ?? "";
  const load = (name, receiver) => new Promise((resolve, reject) => {
    window[receiver] = resolve;
    document.head.append(Object.assign(document.createElement("script"),
      {src: `${root}previews/${name}.js`, onerror: reject}));
  });

  // ---- previews ----
  const chapters = {};
  let queue = Promise.resolve();  // one receiver: one chapter at a time
  const statements = chapter =>
    chapters[chapter] ??= queue = queue.then(() => load(chapter, "zotkPreviews"));
  let shown, wanted;
  const hide = () => { wanted = null; shown?.remove(); shown = null; };
  const show = async link => {
    hide();
    wanted = link;
    const url = new URL(link.href);
    const chapter = url.pathname.match(/\/(?:chapters\/[^/]+|glossary)\.html$/)?.[0]
      .split("/").pop().replace(".html", "");
    if (!chapter) return;
    const html = (await statements(chapter))[decodeURIComponent(url.hash.slice(1))];
    if (!html || wanted !== link) return;
    shown = Object.assign(document.createElement("div"),
      {className: "preview proof admonition", id: "preview", innerHTML: html});
    shown.setAttribute("role", "tooltip");
    link.setAttribute("aria-describedby", "preview");
    document.body.append(shown);
    await window.MathJax?.typesetPromise?.([shown]);
    if (!shown || wanted !== link) return;
    const at = link.getBoundingClientRect();
    const width = Math.min(innerWidth - 16, 544);
    const below = at.bottom + shown.offsetHeight + 16 < innerHeight;
    Object.assign(shown.style, {
      width: `${width}px`,
      left: `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`,
      top: `${below ? at.bottom + 8 : Math.max(8, at.top - shown.offsetHeight - 8)}px`,
    });
    shown.classList.add("placed");
  };
  let timer;
  document.querySelectorAll(".bd-article a.reference.internal[href*='#']").forEach(link => {
    if (link.closest(".toctree-wrapper")) return;
    const soon = () => { clearTimeout(timer); timer = setTimeout(() => show(link).catch(hide), 200); };
    const away = () => { clearTimeout(timer); timer = setTimeout(hide, 200); };
    link.addEventListener("pointerenter", event => { if (event.pointerType === "mouse") soon(); });
    link.addEventListener("pointerleave", away);
    link.addEventListener("focus", soon);
    link.addEventListener("blur", away);
  });
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, {passive: true});

  // ---- a link to evidence opens it ----
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target?.closest("details");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", open);
  open();

  // ---- claims among the results of a search ----
  const results = document.getElementById("search-results");
  const query = new URLSearchParams(location.search).get("q")?.toLowerCase().trim();
  if (!results || !query) return;
  Search.htmlToText = (html, anchor) => {  // an excerpt is of the text, not of menus and buttons
    const text = new DOMParser().parseFromString(html, "text/html").querySelector("article");
    text?.querySelectorAll(".headerlink, .show-code, .claim-links, script, style").forEach(e => e.remove());
    const part = anchor ? text?.querySelector(`[id="${CSS.escape(anchor.slice(1))}"]`) : text;
    return (part ?? text)?.textContent ?? "";
  };
  const fold = text => text.toLowerCase().replace(/[^\p{L}\p{N}.+-]+/gu, " ");
  const terms = fold(query).split(" ").filter(Boolean);
  const whole = (text, term) => ` ${text} `.includes(` ${term} `);
  load("index", "zotkIndex").then(claims => {
    const scored = claims.map(([id, title, href, aliases, words]) => {
      const head = fold(`${id} ${title}`), body = fold(words);
      const points = terms.map(term =>
        whole(head, term) ? 8 : whole(aliases, term) ? 6 : head.includes(term) && term.length > 2 ? 3
          : whole(body, term) ? 1 : 0);
      const all = points.every(Boolean);
      return {id, title, href, points: all ? points.reduce((a, b) => a + b) + (id === query ? 99 : 0) : 0};
    }).filter(claim => claim.points).sort((a, b) => b.points - a.points).slice(0, 8);
    if (!scored.length) return;
    const list = document.createElement("ul");
    list.className = "claims-found";
    scored.forEach(({id, title, href}) => {
      const link = Object.assign(document.createElement("a"), {href: root + href, textContent: title});
      const code = Object.assign(document.createElement("code"), {textContent: id});
      const row = document.createElement("li");
      row.append(link, " ", code);
      list.append(row);
    });
    const head = Object.assign(document.createElement("h2"), {textContent: "Claims"});
    results.before(head, list);
  });
})();
