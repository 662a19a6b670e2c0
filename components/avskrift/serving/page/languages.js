// Whisper's languages, named in the language of the interface.

const FIRST = ["sv", "en"];

// Fills a select: the languages that are asked for most, a line, then all others by name.
export function listLanguages(select, known, interfaceLanguage) {
  const option = (code) => new Option(languageName(known, code, interfaceLanguage), code);
  const others = Object.keys(known).filter((code) => !FIRST.includes(code)).map(option);
  others.sort((one, other) => one.text.localeCompare(other.text, interfaceLanguage));
  select.append(...FIRST.map(option), document.createElement("hr"), ...others);
}

export function languageName(known, code, interfaceLanguage) {
  const names = new Intl.DisplayNames([interfaceLanguage], { type: "language", fallback: "none" });
  const name = (code in known && names.of(code)) || (known[code] ?? code);
  return name.charAt(0).toLocaleUpperCase(interfaceLanguage) + name.slice(1);
}

// The code of a language that the endpoint names in English, as OpenAI's API does; "" for one that it should not have named.
export function languageCode(known, name) {
  return Object.keys(known).find((code) => known[code] === name) ?? "";
}
