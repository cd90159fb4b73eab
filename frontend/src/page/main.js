import { openAnswer } from "../client/index.js";
import { createConversations, historyBefore, linkTo, newId, readLink } from "./conversations.js";
import { find } from "./elements.js";
import { fitting, readLimits, USUAL } from "./limits.js";
import { createModelPicker } from "./model-picker.js";
import { panelOnDemand } from "./panel-on-demand.js";
import { ignoreRepeatedPresses, isOfComposition } from "./presses.js";
import { createQuestionJumps } from "./question-jumps.js";
import { createQuestionBox } from "./question-box.js";
import { createScroll } from "./scroll.js";
import * as storage from "./storage.js";
import { createTurnView } from "./turn-view.js";
import { label, relabel, switchLanguage } from "./words.js";

/** @import { Answer, Question, Resumption } from "../client/index.js" */
/** @import { Conversation, Turn } from "./conversations.js" */

const send = find("#send", HTMLButtonElement);
const stop = find("#stop", HTMLButtonElement);
const turnsElement = find("#turns", HTMLElement);
const tagline = find("#tagline", HTMLElement);
const notice = find("#notice", HTMLElement);
const storageNotice = find("#storage-notice", HTMLElement);
const scroll = createScroll(find("#to-the-end", HTMLButtonElement));

const conversations = createConversations(storage, (trouble) => {
  storageNotice.hidden = trouble === null;
  if (trouble !== null) {
    label(storageNotice, trouble);
  }
});
/** Time after which a question that the page was left with is not sent again by itself: less than the default retention. */
const GO_ON_MS = 10 * 60 * 1000;

/** The answers that are followed, shown or not. The service stops an answer without followers. */
/** @type {Map<Turn, Answer>} */
const followed = new Map();
/** The conversations that have been on show, so that each stays one object. @type {Map<string, Conversation>} */
const opened = new Map();
/** @type {Map<Turn, ReturnType<typeof createTurnView>>} */
const views = new Map();
const models = createModelPicker();
let limits = USUAL;
/** @type {Conversation} */
let current = emptyConversation();
const box = createQuestionBox({
  isRunning: () => runningAnswer() !== null,
  onAsk(question) {
    ask(question);
    document.title = `${String(current.turns[0]?.question).slice(0, 60)} · Folyam`;
  },
});

/** @returns {Conversation} */
function emptyConversation() {
  return { id: newId(), turns: [] };
}

/** @param {string} question */
function ask(question) {
  /** @type {Turn} */
  const turn = { id: newId(), question, askedAt: Date.now(), answer: null, kept: null };
  current.turns.push(turn);
  opened.set(current.id, current);
  conversations.begin(current, turn);
  append(turn);
  begin(current, turn);
  panel.refresh();
  scroll.goToTheEnd();
}

/**
 * Asks a turn's question, for the first time or again.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
function begin(conversation, turn) {
  const all = historyBefore(conversation, turn);
  const history = fitting(all, turn.question, limits);
  views.get(turn)?.showHistoryCut(history.length < all.length ? history.length / 2 : null);
  const model = models.chosen;
  const question = {
    query: turn.question,
    ...(history.length > 0 && { history }),
    ...(model !== null && { model }),
  };
  follow(conversation, turn, question, `${turn.id}-${turn.askedAt}`);
}

/**
 * @param {Conversation} conversation
 * @param {Turn} turn
 * @param {Question | Resumption} request
 * @param {string} [key] a question's own, also after a reload
 */
function follow(conversation, turn, request, key) {
  const answer = openAnswer(request, key === undefined ? {} : { key });
  const before = turn.kept;
  followed.set(turn, answer);
  answer.subscribe((state) => {
    if (state.id !== null && state.id !== turn.answer) {
      turn.answer = state.id;
      turn.kept = null; // a reload from here on follows the new answer
      conversations.update(turn);
      nameInAddress(conversation, turn);
    }
    views.get(turn)?.show(state);
  });
  answer.finished.then((state) => {
    const wasLast = conversation === current && turn === current.turns.at(-1);
    followed.delete(turn);
    if (state.end || state.failure) {
      const { phase, end, failure } = state;
      // A new try that says nothing must not replace the words of the try before.
      const isSilent = state.text === "" && state.toolCalls.length === 0;
      const { text, reasoning, toolCalls } = isSilent && before ? before : state;
      turn.kept = { phase, text, reasoning, toolCalls, end, failure };
      conversations.update(turn);
    }
    showWhatCanBeDone();
    panel.refresh();
    if (wasLast) {
      box.answerEnded(state.phase);
    }
  });
  views.get(turn)?.show(answer.state);
  showWhatCanBeDone();
}

/** Put a new answer's link into the address: a new history entry for a conversation's first answer, else the same one. */
function nameInAddress(/** @type {Conversation} */ conversation, /** @type {Turn} */ turn) {
  if (conversation === current && turn === current.turns.at(-1)) {
    const method = readLink(location.hash) === null ? "pushState" : "replaceState";
    history[method](null, "", linkTo(turn));
  }
}

/** @param {Turn} turn */
function append(turn) {
  const conversation = current;
  const view = createTurnView(turn, {
    onRetry: () => {
      if (followed.has(turn)) {
        return; // pressed twice before the button was gone
      }
      turn.askedAt = Date.now();
      view.expectAnother();
      begin(conversation, turn);
    },
    onGoOn: () => {
      if (followed.has(turn)) {
        return;
      }
      view.expectAnother();
      follow(conversation, turn, { answer: String(turn.answer) });
    },
    onGrown: () => scroll.follow(),
    link: () => linkTo(turn),
  });
  views.set(turn, view);
  turnsElement.append(view.element);
  tagline.hidden = true;
}

/** @param {Conversation} conversation */
function open(conversation) {
  box.takeBack();
  for (const view of views.values()) {
    view.leave();
  }
  views.clear();
  turnsElement.replaceChildren();
  tagline.hidden = conversation.turns.length > 0;
  current = opened.get(conversation.id) ?? conversation;
  opened.set(current.id, current);
  for (const turn of current.turns) {
    if (turn.answer === null && turn.kept === null && !followed.has(turn)) {
      goOnAsking(current, turn);
    }
    append(turn);
    const answer = followed.get(turn);
    if (answer) {
      views.get(turn)?.show(answer.state);
    } else if (turn.answer !== null && turn.kept === null) {
      follow(current, turn, { answer: turn.answer });
    }
  }
  document.title = current.turns[0]?.question
    ? `${current.turns[0].question.slice(0, 60)} · Folyam`
    : "Folyam";
  scroll.goToTheEnd();
  showWhatCanBeDone();
  panel.refresh();
}

/**
 * Ask a turn's question again whose page was left before the answer had a name. Its key leads to the answer that it may have
 * begun. After the service's retention, it could only begin a new one: that is the reader's choice.
 *
 * @param {Conversation} conversation
 * @param {Turn} turn
 */
function goOnAsking(conversation, turn) {
  if (Date.now() - turn.askedAt < GO_ON_MS) {
    begin(conversation, turn);
    return;
  }
  const failure = {
    code: "unreachable",
    message: "",
    retryable: true,
    of: /** @type {const} */ ("connection"),
    retryAfterMs: null,
  };
  turn.kept = { phase: "failed", text: "", reasoning: "", toolCalls: [], end: null, failure };
}

/** Show the answer that the address names: with its conversation if this browser has it, else by itself. */
function goWhereTheAddressSays() {
  const link = readLink(location.hash);
  if (link === null) {
    open(emptyConversation());
    return;
  }
  if (current.turns.some(({ answer }) => answer === link.answer)) {
    return;
  }
  const known = conversations.withAnswer(link.answer);
  if (known) {
    open(known);
    return;
  }
  const turn = { id: newId(), ...link, askedAt: Date.now(), kept: null };
  const linked = { ...emptyConversation(), turns: [turn] };
  conversations.begin(linked, turn);
  open(linked);
}

function runningAnswer() {
  const turn = current.turns.at(-1);
  return turn ? (followed.get(turn) ?? null) : null;
}

function showWhatCanBeDone() {
  const running = runningAnswer() !== null;
  const wasOnButton = document.activeElement === (running ? send : stop);
  send.hidden = running;
  stop.hidden = !running;
  if (!running) {
    stop.disabled = false;
  }
  if (wasOnButton) {
    box.focus(); // the focused button was hidden
  }
}

async function stopAnswer() {
  const answer = runningAnswer();
  if (!answer || stop.disabled) {
    return;
  }
  stop.disabled = true;
  try {
    await answer.stop();
  } catch {
    stop.disabled = false; // the answer goes on: the reader can press again
  }
}

document.addEventListener("keydown", (key) => {
  const elsewhere = key.defaultPrevented || key.repeat || isOfComposition(key);
  if (key.key === "Escape" && !elsewhere && document.querySelector("dialog[open]") === null) {
    stopAnswer();
  }
});
stop.addEventListener("click", stopAnswer);

find("#new", HTMLButtonElement).addEventListener("click", () => {
  if (location.hash !== "") {
    history.pushState(null, "", location.pathname);
  }
  open(emptyConversation());
  box.focus();
});

const panel = panelOnDemand({
  list: conversations.list,
  hasUnreadable: conversations.hasUnreadable,
  isCurrent: ({ id }) => id === current.id,
  isRunning: ({ id }) => (opened.get(id)?.turns ?? []).some((turn) => followed.has(turn)),
  onRename: ({ id }, name) => conversations.rename(id, name),
  onOpen(conversation) {
    const turn = conversation.turns.findLast(({ answer }) => answer !== null);
    history.pushState(null, "", turn ? linkTo(turn) : location.pathname);
    open(conversation);
  },
  onErase(conversation) {
    for (const turn of opened.get(conversation.id)?.turns ?? []) {
      followed.get(turn)?.abort();
    }
  },
  onErased(conversation) {
    conversations.forget(conversation.id);
    opened.delete(conversation.id);
    if (current.id === conversation.id) {
      history.replaceState(null, "", location.pathname);
      open(emptyConversation());
    }
  },
  onEraseUnreadable: conversations.forgetUnreadable,
});

find("#language", HTMLButtonElement).addEventListener("click", async () => {
  await switchLanguage();
  showLanguage();
});

function showLanguage() {
  relabel(document);
  for (const view of views.values()) {
    view.refresh();
  }
  panel.refresh();
  box.refresh();
}

function showNetwork() {
  // navigator.onLine can be wrong, as with a server on this machine. So it is only shown; nothing is disabled.
  notice.hidden = navigator.onLine;
  if (!navigator.onLine) {
    label(notice, "offline");
  }
}

addEventListener("online", showNetwork);
addEventListener("offline", showNetwork);
addEventListener("hashchange", goWhereTheAddressSays);
addEventListener("popstate", goWhereTheAddressSays);
addEventListener("storage", () => panel.refresh());

createQuestionJumps();
ignoreRepeatedPresses();
showLanguage();
showNetwork();
goWhereTheAddressSays();
// All listeners are set. Until here, index.html's form is disabled.
send.disabled = false;
find("#not-started", HTMLElement).remove();
if (matchMedia("(hover: hover)").matches) {
  box.focus(); // not on phones, where it would open the keyboard
}
readLimits().then((told) => {
  limits = told;
  box.limit(told.queryCharacters);
  models.offer(told.models);
});
