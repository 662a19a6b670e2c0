// The interface's language: the first of the browser's that there is a file for.

const KNOWN = ["sv", "en"];

export async function loadWords(preferred) {
  const wanted = preferred.map((tag) => tag.toLowerCase().split("-")[0]);
  const language = wanted.find((code) => KNOWN.includes(code)) ?? "en";
  const texts = await (await fetch(new URL(`${language}.json`, import.meta.url))).json();
  const text = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const quantity = (number, unit, unitDisplay = "short") =>
    new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay, maximumFractionDigits: 1 }).format(number);
  const duration = (seconds) => (seconds < 120 ? quantity(seconds, "second", "long") : quantity(seconds / 60, "minute", "long"));
  return { language, text, quantity, duration };
}

// Fills elements that say which text they want: in data-text as their content, in data-label as what screen readers call them.
export function fill(root, words) {
  root.documentElement.lang = words.language;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = words.text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", words.text(element.dataset.label));
}
