/** @import { ElementView, View } from "./patch.js" */

/**
 * @typedef {object} Definition of an address that links name
 * @property {string} label as markdown-it normalizes it
 * @property {string} href
 * @property {string} title
 * @property {ElementView} view
 *
 * @typedef {ElementView} Content inline content
 */

/**
 * The definitions of an answer, and what refers to them. A definition may come long after a reference to it was shown: then
 * the reference becomes a link.
 */
export class References {
  /** @type {Map<string, Definition>} */
  #definitions = new Map();
  /** Labels. @type {Set<string>} */
  #footnotes = new Set();
  /** Labels that something refers to. @type {Set<string>} */
  #used = new Set();
  /** The definitions that are shown, since nothing has referred to them. @type {Map<string, ElementView[]>} */
  #unused = new Map();
  /** @type {Map<string, Set<Content>>} */
  #waiting = new Map();
  /** Labels that were looked up in vain by the content that is made. @type {Set<string>} */
  #misses = new Set();

  /** What markdown-it's inline rules know. */
  environment = {
    references: new Proxy(/** @type {Record<string, {href: string, title: string}>} */ ({}), {
      get: (_, label) => this.#find(String(label)),
    }),
    /** @param {string} label */
    hasFootnote: (label) => {
      if (!this.#footnotes.has(label)) {
        this.#misses.add(`^${label}`);
      }
      return this.#footnotes.has(label);
    },
  };

  /** @param {string} label */
  #find(label) {
    const definition = this.#definitions.get(label);
    if (definition) {
      this.#use(label);
    } else {
      this.#misses.add(label);
    }
    return definition;
  }

  /** Hide a definition: it is a mark of the link that refers to it. @param {string} label */
  #use(label) {
    this.#used.add(label);
    for (const view of this.#unused.get(label) ?? []) {
      view.attributes = { ...view.attributes, hidden: "" };
      view.node?.setAttribute("hidden", "");
    }
    this.#unused.delete(label);
  }

  /** @param {string} label */
  isUsed(label) {
    return this.#used.has(label);
  }

  /** Make content, and note what it refers to in vain. @param {Content} content @param {() => View[]} make */
  make(content, make) {
    this.#misses = new Set();
    const views = make();
    content.misses = this.#misses;
    return views;
  }

  /**
   * Return the labels that are new: the first definition of a label holds.
   *
   * @param {Definition[]} definitions in the text's order
   * @param {string[]} footnotes labels
   */
  define(definitions, footnotes) {
    const labels = [];
    for (const definition of definitions) {
      const { label, view } = definition;
      if (!this.#definitions.has(label)) {
        this.#definitions.set(label, definition);
        labels.push(label);
      }
      if (!this.#used.has(label)) {
        this.#unused.set(label, [...(this.#unused.get(label) ?? []), view]);
      }
    }
    for (const label of footnotes.filter((each) => !this.#footnotes.has(each))) {
      this.#footnotes.add(label);
      labels.push(`^${label}`);
    }
    return labels;
  }

  /** Remember content that refers to something in vain, until that is defined. @param {Content} content */
  wait(content) {
    for (const label of content.misses ?? []) {
      this.#waiting.set(label, (this.#waiting.get(label) ?? new Set()).add(content));
    }
  }

  /** Return the remembered contents that refer to labels. @param {string[]} labels */
  waitingFor(labels) {
    const contents = new Set(labels.flatMap((label) => [...(this.#waiting.get(label) ?? [])]));
    labels.forEach((label) => this.#waiting.delete(label));
    return contents;
  }
}
