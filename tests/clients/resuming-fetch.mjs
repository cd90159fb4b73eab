// A `fetch` for HttpAgent: where the body is cut, it asks again with the id of the last event, and goes on behind it.
const WAIT_MILLISECONDS = 500;

export async function resumingFetch(url, init) {
  const first = await fetch(url, init);
  if (!first.ok) return first;
  const encoder = new TextEncoder();
  let id;

  // Only whole events are passed on: what is left of one that was cut comes again.
  async function pass(response, controller) {
    let text = "";
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const end = text.lastIndexOf("\n\n") + 1;
      if (!end) continue;
      const events = text.slice(0, end + 1);
      id =
        events
          .match(/^id: .*$/gm)
          ?.at(-1)
          .slice("id: ".length) ?? id;
      controller.enqueue(encoder.encode(events));
      text = text.slice(end + 1);
    }
  }

  async function again() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, WAIT_MILLISECONDS));
      init.signal?.throwIfAborted();
      const response = await fetch(url, { ...init, headers: { ...init.headers, "Last-Event-ID": id } }).catch(
        () => null,
      );
      if (response?.ok) return response;
      if (response && response.status < 500)
        throw new Error(`HTTP ${response.status}: ${await response.text()}`);
    }
  }

  async function start(controller) {
    let response = first;
    for (;;) {
      try {
        await pass(response, controller);
        return controller.close();
      } catch (error) {
        if (init.signal?.aborted || id === undefined) return controller.error(error);
      }
      try {
        response = await again();
      } catch (error) {
        return controller.error(error);
      }
    }
  }

  return new Response(new ReadableStream({ start }), first);
}
