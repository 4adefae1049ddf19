/* The switch "show all code", remembered; folds open for print. */
(() => {
  const folds = () => document.querySelectorAll("details.fold");
  const remembered = {
    get: () => { try { return localStorage.getItem("show-code") === "yes"; } catch { return false; } },
    set: on => { try { localStorage.setItem("show-code", on ? "yes" : "no"); } catch { /* private */ } },
  };
  const show = on => folds().forEach(fold => { fold.open = on; });

  const start = () => {
    const title = document.querySelector(".bd-article h1");
    if (!title || !folds().length) return;
    const box = Object.assign(document.createElement("input"), {type: "checkbox"});
    box.checked = remembered.get();
    box.addEventListener("change", () => { remembered.set(box.checked); show(box.checked); });
    const label = Object.assign(document.createElement("label"), {className: "show-code"});
    label.append(box, " show all code and cards");
    title.after(label);
    if (box.checked) show(true);
  };

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach(each => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(each => { each.open = false; }));
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
