/** What the renderer says, in English. */
export const ENGLISH = {
  code: "Code",
  table: "Table",
  image: "image",
  wrap: "Wrap lines",
  copy: "Copy",
};
