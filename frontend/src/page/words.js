import { readStored, store } from "./storage.js";

/** What the page says, in English and Hungarian. */

const ENGLISH = {
  tagline:
    "Ask a language model. The answer stays with you: through a lost network, a reload, or on another device.",
  question: "Your question",
  placeholder: "Ask anything",
  send: "Send",
  stop: "Stop",
  newConversation: "New",
  conversations: "Conversations",
  noConversations: "Nothing yet. What you ask is kept in this browser only.",
  close: "Close",
  erase: "Erase",
  eraseAll: "Erase all",
  eraseAllAsk: "Erase all conversations, here and on the server?",
  keep: "Keep",
  notErased: "The server could not be reached. What it could not erase is still listed.",
  language: "Magyar",
  languageLabel: "Magyarul",
  toTheEnd: "To the end",
  copy: "Copy",
  copied: "Copied",
  notCopied: "Could not copy",
  copyLink: "Copy link",
  retry: "Ask again",
  goOn: "Go on",
  reasoning: "Reasoning",
  code: "Code",
  table: "Table",
  image: "image",
  answer: "Answer",
  linkedAnswer: "An answer by its link",
  offline: "You are offline.",
  storageFull:
    "This browser's storage is full: new questions and answers stay only while this page is open. Erase conversations to make room.",
  storageBlocked:
    "This browser stores nothing for this page: your conversations stay only while this page is open.",
  unreadable:
    "Some conversations here were stored in a form that this page cannot read. They stay until you erase all.",

  connecting: "Connecting …",
  waiting: "Waiting for the first words …",
  streaming: "Answering …",
  reconnecting: "Connection lost. Reconnecting …",
  waitingForNetwork: "You are offline. The answer goes on when the network is back.",
  waitingForRetry: "Connection lost. Trying again in {seconds} s …",
  waitingForService: "The server asks for patience. Trying again in {seconds} s …",
  elapsed: "{seconds} s",

  finished: "The answer is complete.",
  cutByLength: "The answer reached its greatest length.",
  filtered: "The model's provider withheld the rest.",
  stoppedByUser: "Stopped.",
  stoppedByUnwatched: "Stopped, because nobody was watching.",
  stoppedByShutdown: "Stopped, because the server was shut down.",
  firstChunk: "first words after {seconds} s",
  duration: "{seconds} s in all",
  tokens: "{count} tokens",
  tokensPerSecond: "{count} tokens/s",

  failed: "The answer failed: {reason}",
  lost: "The answer could not be followed: {reason}",
  errors: {
    offline: "you were offline for too long.",
    unreachable: "the server could not be reached for too long.",
    unsure: "the connection broke before the answer began.",
    protocol: "something other than the server answered.",
    refused: "the server refused the request.",
    unknown_answer: "it is no longer on the server.",
    draining: "the server is restarting.",
    overloaded: "the server has too much to do.",
    log_full: "the server has no room for more answers.",
    log_unavailable: "the server cannot store answers now.",
    interrupted: "the server was interrupted.",
    answer_too_long: "it became too long.",
    answer_timeout: "it took too long.",
    upstream_error: "the model reported an error.",
    upstream_unavailable: "the model is not available.",
    upstream_unreachable: "the model could not be reached.",
    upstream_timeout: "the model was silent for too long.",
    upstream_rate_limited: "the model has too much to do.",
    upstream_cut: "the connection to the model broke.",
    upstream_truncated: "the model broke off.",
    upstream_malformed: "the model sent something unreadable.",
    upstream_credentials: "the model's provider refused the server's key.",
    upstream_not_found: "there is no such model.",
    upstream_redirected: "the model's server has moved.",
    upstream_bad_request: "the model did not accept the question.",
    upstream_too_long: "the conversation is too long for the model.",
  },
};

/** @type {typeof ENGLISH} */
const HUNGARIAN = {
  tagline:
    "Kérdezz egy nyelvi modelltől! A válasz veled marad: hálózatkiesés, újratöltés után és másik eszközön is.",
  question: "A kérdésed",
  placeholder: "Kérdezz bármit",
  send: "Küldés",
  stop: "Leállítás",
  newConversation: "Új",
  conversations: "Beszélgetések",
  noConversations: "Még nincs egy sem. A kérdéseidet csak ez a böngésző őrzi meg.",
  close: "Bezárás",
  erase: "Törlés",
  eraseAll: "Összes törlése",
  eraseAllAsk: "Töröljem az összes beszélgetést innen és a kiszolgálóról is?",
  keep: "Mégse",
  notErased: "A kiszolgáló nem érhető el. Amit nem tudott törölni, az a listában marad.",
  language: "English",
  languageLabel: "In English",
  toTheEnd: "A végére",
  copy: "Másolás",
  copied: "Kimásolva",
  notCopied: "Nem sikerült kimásolni",
  copyLink: "Hivatkozás másolása",
  retry: "Kérdezd újra",
  goOn: "Folytatás",
  reasoning: "Gondolatmenet",
  code: "Kód",
  table: "Táblázat",
  image: "kép",
  answer: "Válasz",
  linkedAnswer: "Hivatkozással megnyitott válasz",
  offline: "Nincs hálózati kapcsolat.",
  storageFull:
    "Megtelt a böngésző tárhelye: az új kérdések és válaszok csak addig maradnak meg, amíg ez az oldal nyitva van. Törölj beszélgetéseket, hogy legyen hely!",
  storageBlocked:
    "A böngésző semmit sem tárol ehhez az oldalhoz: a beszélgetéseid csak addig maradnak meg, amíg ez az oldal nyitva van.",
  unreadable:
    "Néhány itt tárolt beszélgetést ez az oldal nem tud elolvasni. Megmaradnak, amíg az összeset nem törlöd.",

  connecting: "Kapcsolódás …",
  waiting: "Várakozás az első szavakra …",
  streaming: "Érkezik a válasz …",
  reconnecting: "A kapcsolat megszakadt. Újrakapcsolódás …",
  waitingForNetwork: "Nincs hálózat. A válasz folytatódik, amint visszatér a kapcsolat.",
  waitingForRetry: "A kapcsolat megszakadt. Új próbálkozás {seconds} mp múlva …",
  waitingForService: "A kiszolgáló türelmet kér. Új próbálkozás {seconds} mp múlva …",
  elapsed: "{seconds} mp",

  finished: "A válasz elkészült.",
  cutByLength: "A válasz elérte a legnagyobb megengedett hosszát.",
  filtered: "A többit a modell szolgáltatója visszatartotta.",
  stoppedByUser: "Leállítva.",
  stoppedByUnwatched: "Leállt, mert senki sem figyelte.",
  stoppedByShutdown: "Leállt, mert a kiszolgálót leállították.",
  firstChunk: "első szavak: {seconds} mp",
  duration: "összesen {seconds} mp",
  tokens: "{count} token",
  tokensPerSecond: "{count} token/mp",

  failed: "A válasz nem sikerült: {reason}",
  lost: "A választ nem sikerült követni: {reason}",
  errors: {
    offline: "túl sokáig nem volt hálózat.",
    unreachable: "a kiszolgáló túl sokáig nem volt elérhető.",
    unsure: "a kapcsolat a válasz kezdete előtt megszakadt.",
    protocol: "nem a kiszolgáló válaszolt.",
    refused: "a kiszolgáló elutasította a kérést.",
    unknown_answer: "már nincs meg a kiszolgálón.",
    draining: "a kiszolgáló újraindul.",
    overloaded: "a kiszolgáló túlterhelt.",
    log_full: "a kiszolgálón nincs több hely válaszoknak.",
    log_unavailable: "a kiszolgáló most nem tud választ tárolni.",
    interrupted: "a kiszolgáló működése megszakadt.",
    answer_too_long: "túl hosszú lett.",
    answer_timeout: "túl sokáig tartott.",
    upstream_error: "a modell hibát jelzett.",
    upstream_unavailable: "a modell nem elérhető.",
    upstream_unreachable: "a modellhez nem lehet kapcsolódni.",
    upstream_timeout: "a modell túl sokáig hallgatott.",
    upstream_rate_limited: "a modell túlterhelt.",
    upstream_cut: "a modellel megszakadt a kapcsolat.",
    upstream_truncated: "a modell félbehagyta.",
    upstream_malformed: "a modell olvashatatlan választ küldött.",
    upstream_credentials: "a modell szolgáltatója nem fogadta el a kiszolgáló kulcsát.",
    upstream_not_found: "nincs ilyen modell.",
    upstream_redirected: "a modell kiszolgálója más címre költözött.",
    upstream_bad_request: "a modell nem fogadta el a kérdést.",
    upstream_too_long: "a beszélgetés túl hosszú a modellnek.",
  },
};

const LANGUAGES = { en: ENGLISH, hu: HUNGARIAN };
const CHOICE = "folyam.language";

/** @typedef {keyof typeof LANGUAGES} Language */
/** @typedef {Exclude<keyof typeof ENGLISH, "errors">} Word */

/** @type {Language} */
let language = firstLanguage();

/** The reader's choice, else the first of the browser's languages that the page speaks, else English. */
function firstLanguage() {
  const chosen = readStored(CHOICE);
  const speaks = [chosen, ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return speaks.find((tag) => tag === "en" || tag === "hu") === "hu" ? "hu" : "en";
}

export function currentLanguage() {
  return language;
}

export function switchLanguage() {
  language = language === "hu" ? "en" : "hu";
  store(CHOICE, language);
}

/**
 * @param {Word} word
 * @param {Record<string, string | number>} [values]
 */
export function say(word, values = {}) {
  return LANGUAGES[language][word].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * Why something failed, in the reader's language; where the page does not know the code, in the server's words.
 *
 * @param {{code: string, message: string}} failure
 */
export function reasonFor({ code, message }) {
  /** @type {Record<string, string>} */
  const errors = LANGUAGES[language].errors;
  return Object.hasOwn(errors, code) ? String(errors[code]) : message;
}

/**
 * @param {number} value
 * @param {number} [digits]
 */
export function formatNumber(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/**
 * Says a word in an element, now and after every change of the language.
 *
 * @template {HTMLElement} E
 * @param {E} element
 * @param {Word} word
 * @param {"text" | "label" | "placeholder"} [as]
 */
export function label(element, word, as = "text") {
  element.dataset[`say${as}`] = word;
  apply(element, word, as);
  return element;
}

const AS = /** @type {const} */ (["text", "label", "placeholder"]);

/** @param {ParentNode} root */
export function relabel(root) {
  document.documentElement.lang = language;
  for (const as of AS) {
    for (const element of root.querySelectorAll(`[data-say${as}]`)) {
      if (element instanceof HTMLElement) {
        apply(element, /** @type {Word} */ (element.dataset[`say${as}`]), as);
      }
    }
  }
}

/**
 * @param {HTMLElement} element
 * @param {Word} word
 * @param {(typeof AS)[number]} as
 */
function apply(element, word, as) {
  if (as === "text") {
    element.textContent = say(word);
  } else {
    element.setAttribute(as === "label" ? "aria-label" : as, say(word));
  }
}
