"""An upstream for tests: OpenAI's chat-completions protocol over a real socket, misbehaving on command.

The request has the script: the text of the last user message is a JSON object with the fields of
`tests.upstream.script.Script`. Tests share one server and no state. Any other text gets a plain answer.

    with UpstreamProcess.start() as upstream:           # from tests.upstream.process
        query = command(key="a", chunks=3, cut_after=2)  # from tests.upstream.script
        ...                                              # ask the service, which asks upstream.base_url
        [record] = upstream.requests("a")
"""
