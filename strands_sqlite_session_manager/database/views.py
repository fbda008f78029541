"""The views for people who read the file with SQL: `transcript` and `usage`.

SQLite's JSON functions abort a whole query at text that is not strict JSON, and Python writes `NaN` and `Infinity`: the
views show no text for a message that holds them. Nor do they for one with a lone surrogate, which is not UTF-8 and
would abort the query in Python.

SQLite parses the views whenever it opens the file, so long ones make every start slower. They show only what is in the
messages; `sessions/usage.py` knows more.

The views are stored in each file: change them only with a new migration.
"""

# The replacement of a redacted message, and any other message as it was said.
READABLE = """
        CASE
            WHEN json_valid(coalesce(redact_message, message))
                AND NOT coalesce(redact_message, message) GLOB '*\\ud[89a-f]*'
            THEN coalesce(redact_message, message)
        END
"""

_TRANSCRIPT = f"""
CREATE VIEW transcript AS
    SELECT
        session_id,
        agent_id,
        message_id,
        created_at,
        json_extract(said, '$.role') AS role,
        (
            SELECT group_concat(json_extract(block.value, '$.text'), char(10))
            FROM json_each(said, '$.content') AS block
            WHERE block.type = 'object'
        ) AS text,
        (
            SELECT group_concat(json_extract(block.value, '$.toolUse.name'), ', ')
            FROM json_each(said, '$.content') AS block
            WHERE block.type = 'object'
        ) AS tools_called,
        (
            SELECT group_concat(
                coalesce(json_extract(part.value, '$.text'), json_extract(part.value, '$.json')), char(10)
            )
            FROM json_each(said, '$.content') AS block, json_each(block.value, '$.toolResult.content') AS part
            WHERE block.type = 'object' AND part.type = 'object'
        ) AS tool_results,
        redact_message IS NOT NULL AS redacted
    FROM (SELECT *, {READABLE} AS said FROM messages)
"""


def _sum(path: str) -> str:
    """Return the SQL of a sum that stops at the largest integer instead of failing."""
    return f"CAST(total(json_extract(said, '$.metadata.{path}')) AS INTEGER)"


_USAGE = f"""
CREATE VIEW usage AS
    SELECT
        session_id,
        agent_id,
        substr(created_at, 1, 10) AS day,
        count(*) AS answers,
        {_sum("usage.inputTokens")} AS input_tokens,
        {_sum("usage.outputTokens")} AS output_tokens,
        {_sum("usage.totalTokens")} AS total_tokens,
        {_sum("usage.cacheReadInputTokens")} AS cache_read_input_tokens,
        {_sum("usage.cacheWriteInputTokens")} AS cache_write_input_tokens,
        {_sum("metrics.latencyMs")} AS latency_ms
    FROM (SELECT *, {READABLE} AS said FROM messages) AS answer
    WHERE json_type(said, '$.metadata.usage') = 'object' AND created_at >= (
        SELECT iif(forked_from IS NULL, '', sessions.created_at)
        FROM sessions
        WHERE sessions.session_id = answer.session_id
    )
    GROUP BY session_id, agent_id, day
"""

VIEWS = (_TRANSCRIPT, _USAGE)
