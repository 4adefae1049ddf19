/* Explorers: a slider for each knob, a file for each combination of their values. */
document.querySelectorAll(".explorer").forEach(explorer => {
  const knobs = [...explorer.querySelectorAll("input")];
  const picture = explorer.querySelector("img");
  const alts = JSON.parse(explorer.querySelector("script").textContent);
  const frame = moved => knobs.reduce(
    (at, knob, i) => at * (Number(knob.max) + 1) + Math.min(Number(knob.max), Math.max(0, moved[i])), 0);
  const file = at => `${explorer.dataset.frames}/${at}.webp`;
  const here = () => knobs.map(knob => Number(knob.value));

  const prepare = () => knobs.forEach((_, i) => [-1, 1].forEach(step => {
    new Image().src = file(frame(here().map((value, j) => value + (i === j ? step : 0))));
  }));
  const show = () => {
    knobs.forEach(knob => {
      const value = JSON.parse(knob.dataset.values)[knob.value];
      knob.setAttribute("aria-valuetext", value);
      knob.nextElementSibling.textContent = value;
    });
    const at = frame(here());
    picture.src = file(at);
    picture.alt = alts[at];
    prepare();
  };
  knobs.forEach(knob => knob.addEventListener("input", show));
  // a browser may bring back where the sliders stood
  if (knobs.some(knob => knob.value !== knob.defaultValue)) show();
  explorer.addEventListener("pointerenter", prepare, {once: true});
  explorer.addEventListener("focusin", prepare, {once: true});
});
