/** Where the list of conversations has room beside the text. style.css has the same width. */
export const ROOM_BESIDE = "(width >= 72rem)";
