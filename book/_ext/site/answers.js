/* Answers to exercises: a typed number against the one that the page's run has left in the form. */
(() => {
  const PLAIN = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
  const GROUPED = /^[-+]?\d{1,3}(,\d{3})+(\.\d+)?$/;

  /* The number that a text means: 0.25, 1e-3, 3/4, 25 %, 1,210; NaN where it means none. A percent
     sign divides by 100, unless percent is the unit asked for. */
  const read = (text, unit = "") => {
    let words = text.normalize("NFKC").replaceAll("\u2212", "-").replace(/\s+/g, "");
    const percent = words.endsWith("%");
    if (percent) words = words.slice(0, -1);
    const parts = words.split("/").map(part =>
      GROUPED.test(part) ? Number(part.replaceAll(",", "")) : PLAIN.test(part) ? Number(part) : NaN);
    if (parts.length > 2) return NaN;
    return (parts.length === 2 ? parts[0] / parts[1] : parts[0]) / (percent && unit !== "%" ? 100 : 1);
  };

  const judge = (value, expected, close) => {
    if (!Number.isFinite(value)) {
      return {right: null, words: "Write a number, such as 0.25, 3/4 or 1e-3, with a decimal point."};
    }
    const off = Math.abs(value - expected);
    if (off <= close * (1 + 1e-9) + 1e-12 * Math.abs(expected)) {
      const shown = Number(expected.toPrecision(4));
      return {right: true, words: `✓ Right. The run of this page has ${shown}.`};
    }
    const sign = Math.abs(value + expected) <= close && expected !== 0;
    const words = sign ? "the size is right, the sign is not"
      : value > expected ? "too large" : "too small";
    return {right: false, words: `✗ Not yet: ${words}.`};
  };

  if (typeof document === "undefined") {
    module.exports = {read, judge};
    return;
  }
  document.querySelectorAll("form.answer").forEach(form => {
    const [input, verdict] = [form.querySelector("input"), form.querySelector("output")];
    const {expected, close, unit} = form.dataset;
    form.addEventListener("submit", event => {
      event.preventDefault();
      const {right, words} = judge(read(input.value, unit), Number(expected), Number(close));
      verdict.textContent = words;
      form.dataset.right = right;
      input.setAttribute("aria-invalid", String(right !== true));
    });
    input.addEventListener("input", () => {
      verdict.textContent = "";
      delete form.dataset.right;
      input.removeAttribute("aria-invalid");
    });
  });
})();
