/* The switch "show all code", remembered; folds open for print; what is wide in the keyboard's reach. */
(() => {
  const folds = () => document.querySelectorAll("details:is(.fold-code, .fold-checks, .fold-proof)"); // no answers
  const remembered = {
    get: () => { try { return localStorage.getItem("show-code") === "yes"; } catch { return false; } },
    set: on => { try { localStorage.setItem("show-code", on ? "yes" : "no"); } catch { /* private */ } },
  };
  const show = on => folds().forEach(fold => { fold.open = on; });

  const start = () => {
    const box = document.querySelector(".show-code input");
    if (!box) return;
    box.checked = remembered.get();
    box.addEventListener("change", () => { remembered.set(box.checked); show(box.checked); });
    if (box.checked) show(true);
  };

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach(each => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(each => { each.open = false; }));

  // what must be scrolled is a stop of the tab key, and nothing else of its kind
  const parts = "mjx-container, .zotk-card, pre, .cell_output > .output, .pst-scrollable-table-container";
  const cut = part => part.scrollWidth > part.clientWidth
    || part.matches(".output") && part.scrollHeight > part.clientHeight;
  const wide = new ResizeObserver(seen => seen.map(({target}) => [target, cut(target)])
    .forEach(([target, stop]) => { if (stop) target.tabIndex = 0; else target.removeAttribute("tabindex"); }));
  const watched = new WeakSet();
  const watch = root => root.querySelectorAll(parts).forEach(part => {
    if (!watched.has(part)) wide.observe(part);
    watched.add(part);
  });
  // glyphs of another font overflow a box that keeps its size: observed anew, it is looked at again
  document.fonts.addEventListener("loadingdone", () => document.querySelectorAll(parts).forEach(part => {
    if (!watched.has(part)) return;
    wide.unobserve(part);
    wide.observe(part);
  }));
  addEventListener("load", () => {
    watch(document);
    // a formula that comes near the screen is set, in a container of its own
    new MutationObserver(changes => changes.forEach(({target}) => watch(target)))
      .observe(document.querySelector("article") ?? document.body, {childList: true, subtree: true});
  });

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
