"""The views for people who read the file with SQL: `transcript` and `usage`.

SQLite's JSON functions abort a whole query at text that is not strict JSON, and Python writes `NaN` and `Infinity`: the
views show no text for a message that holds them. Nor do they for one with a lone surrogate, which is not UTF-8 and
would abort the query in Python.

What a fork has copied counts as usage once, where it was said: `counts` is the rule.

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

# The JSON of a message that can be an answer with its usage: the others need not be parsed.
ANSWER = """
        CASE
            WHEN instr(coalesce(redact_message, message), '"usage"') AND json_valid(coalesce(redact_message, message))
            THEN coalesce(redact_message, message)
        END
"""


def _counts(table: str, *identity: str) -> str:
    """Return the condition on a row that it is not what a fork has copied.

    A copy has the identity of its original, times included. If the session that it was forked from was deleted, the
    copy that was stored first counts.
    """
    same = " AND ".join(f"original.{column} = {table}.{column}" for column in identity)
    return f"""
        (
            {table}.session_id NOT IN (SELECT session_id FROM sessions WHERE forked_from IS NOT NULL)
            OR EXISTS (
                SELECT 1
                FROM sessions AS fork
                WHERE fork.session_id = {table}.session_id AND CASE
                    WHEN forked_from IN (SELECT session_id FROM sessions)
                    THEN NOT EXISTS (
                        SELECT 1 FROM {table} AS original WHERE original.session_id = forked_from AND {same}
                    )
                    ELSE {table}.rowid IN (SELECT min(rowid) FROM {table} GROUP BY {", ".join(identity)})
                END
            )
        )
"""


MESSAGE_COUNTS = _counts("messages", "agent_id", "message_id", "created_at")
STATE_COUNTS = _counts("multi_agents", "multi_agent_id", "created_at", "updated_at")

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


def _sum(name: str) -> str:
    """Return the SQL of a sum that stops at the largest integer instead of failing."""
    return f"CAST(sum(CAST(json_extract(part.value, '$.{name}') AS REAL)) AS INTEGER)"


def _of_state(path: str) -> str:
    """Return the SQL of a number of an orchestrator; older versions of Strands keep it of each node only."""
    of_nodes = f"(SELECT sum(json_extract(node.value, '{path}')) FROM json_each(state, '$.node_results') AS node)"
    return f"CAST(CAST(coalesce(json_extract(state, '{path}'), {of_nodes}) AS REAL) AS INTEGER)"


# Of an orchestrator, the state has the tokens of the last run.
_USAGE = f"""
CREATE VIEW usage AS
    SELECT
        session_id,
        agent_id,
        substr(created_at, 1, 10) AS day,
        sum(part.key = 'usage') AS answers,
        {_sum("inputTokens")} AS input_tokens,
        {_sum("outputTokens")} AS output_tokens,
        {_sum("totalTokens")} AS total_tokens,
        {_sum("cacheReadInputTokens")} AS cache_read_input_tokens,
        {_sum("cacheWriteInputTokens")} AS cache_write_input_tokens,
        {_sum("latencyMs")} AS latency_ms
    FROM messages, json_each({ANSWER}, '$.metadata') AS part
    WHERE part.key IN ('usage', 'metrics') AND part.type = 'object' AND {MESSAGE_COUNTS}
    GROUP BY session_id, agent_id, day
    HAVING sum(part.key = 'usage')
    UNION ALL
    SELECT
        session_id,
        multi_agent_id,
        substr(updated_at, 1, 10),
        (SELECT count(*) FROM json_each(state, '$.node_results')),
        {_of_state("$.accumulated_usage.inputTokens")},
        {_of_state("$.accumulated_usage.outputTokens")},
        {_of_state("$.accumulated_usage.totalTokens")},
        {_of_state("$.accumulated_usage.cacheReadInputTokens")},
        {_of_state("$.accumulated_usage.cacheWriteInputTokens")},
        {_of_state("$.accumulated_metrics.latencyMs")}
    FROM (
        SELECT session_id, multi_agent_id, updated_at, CASE WHEN json_valid(state) THEN state END AS state
        FROM multi_agents
        WHERE {STATE_COUNTS}
    )
    WHERE json_type(state, '$.node_results') = 'object' AND json_extract(state, '$.node_results') <> '{{}}'
"""

VIEWS = (_TRANSCRIPT, _USAGE)
