"""The views for people who read the file with SQL: `transcript` and `usage`.

SQLite's JSON functions stop a whole query at text that is not strict JSON, and Python writes `NaN` and
`Infinity`: of a message that holds them, the views show no text.
"""

# What counts is the replacement where a message was redacted, and what was said otherwise.
_SAID = """
        SELECT
            *,
            CASE WHEN json_valid(coalesce(redact_message, message)) THEN coalesce(redact_message, message) END AS said
        FROM messages
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
    FROM ({_SAID})
"""

_USAGE = f"""
CREATE VIEW usage AS
    SELECT
        session_id,
        agent_id,
        substr(created_at, 1, 10) AS day,
        count(*) AS answers,
        sum(json_extract(said, '$.metadata.usage.inputTokens')) AS input_tokens,
        sum(json_extract(said, '$.metadata.usage.outputTokens')) AS output_tokens,
        sum(json_extract(said, '$.metadata.usage.totalTokens')) AS total_tokens,
        sum(json_extract(said, '$.metadata.usage.cacheReadInputTokens')) AS cache_read_input_tokens,
        sum(json_extract(said, '$.metadata.usage.cacheWriteInputTokens')) AS cache_write_input_tokens,
        sum(json_extract(said, '$.metadata.metrics.latencyMs')) AS latency_ms
    FROM ({_SAID})
    WHERE json_type(said, '$.metadata.usage') = 'object'
    GROUP BY session_id, agent_id, day
"""

VIEWS = (_TRANSCRIPT, _USAGE)
