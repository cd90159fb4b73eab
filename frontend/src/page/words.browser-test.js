import { expect, test } from "vitest";

test("a_reader_loads_the_words_of_one_language_and_the_other_s_when_switching", async () => {
  const loaded = () =>
    performance
      .getEntriesByType("resource")
      .map(({ name }) => /(english|hungarian)\.js/.exec(name)?.[1])
      .filter(Boolean);
  const { say, switchLanguage } = await import("./words.js");
  expect(loaded()).toEqual(["english"]);
  await switchLanguage();
  expect(loaded()).toEqual(["english", "hungarian"]);
  expect(say("send")).toBe("Küldés");
  await switchLanguage();
  expect(say("send")).toBe("Send");
});
