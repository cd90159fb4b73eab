/** In place of the package `uc.micro`: browsers know Unicode's punctuation and symbols, which have 2 KB compressed there. */
export const P = /\p{P}/u;
export const S = /\p{S}/u;
