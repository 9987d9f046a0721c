package embedded

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statementMaxBytes bounds a statement with its inline data, which is held in
// memory. INSERT … FORMAT with its data in the body is streamed and unbounded.
const statementMaxBytes = 64 << 20

// query is one request, parsed. Nothing of it has been given to the engine.
type query struct {
	id              string
	sql             string
	database        string
	format          string // of the answer
	protocolVersion int
	settings        []setting
	comment         string // the client's own log_comment
	params          *params
	paramValues     map[string]string

	insertFormat string // set when the body is the data of an INSERT
	killAsync    bool
	interrupted  bool // the request ended before its answer
}

type setting struct{ name, value string }

var (
	settingName = regexp.MustCompile(`^[a-z0-9_]+$`)
	paramName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

	insertStart  = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s`)
	insertFormat = regexp.MustCompile(`(?is)^(.*\S)\s+FORMAT\s+([A-Za-z0-9]+)\s*;?\s*$`)
	insertValues = regexp.MustCompile(`(?is)^(.*\S)\s*\bVALUES\s*;?\s*$`)
	formatClause = regexp.MustCompile(`(?is)\sFORMAT\s+([A-Za-z0-9]+)\s*;?\s*$`)

	selectStart = regexp.MustCompile(`(?is)^[\s(]*(SELECT|WITH)\b`)
	killStart   = regexp.MustCompile(`(?is)^\s*KILL\s+QUERY\b`)
	killByID    = regexp.MustCompile(`(?is)^\s*KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*(?:'((?:[^'\\]|\\.)*)'|\{\s*(\w+)\s*:\s*String\s*\})\s*(SYNC|ASYNC)?\s*;?\s*$`)
)

// notSettings are the URL parameters of ClickHouse's HTTP interface that are no
// settings. Users and quotas do not exist here: whoever reaches loopback is in.
var notSettings = []string{
	"query", "database", "default_format", "query_id", "client_protocol_version",
	"quota_key", "user", "password", "wait_end_of_query", "buffer_size", "compress", "decompress",
}

func (f *front) parseRequest(w http.ResponseWriter, r *http.Request) (*query, error) {
	values, err := unescapedQuery(r)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "External tables are not supported by the embedded ClickHouse")
	}
	q := &query{
		id:       values.Get("query_id"),
		database: values.Get("database"),
		format:   values.Get("default_format"),
		params:   &params{}, paramValues: map[string]string{},
	}
	if q.id == "" {
		q.id = rand.Text()
	} else if strings.ContainsAny(q.id, "\n\x00") {
		return nil, exceptionf(codeBadArguments, "BAD_ARGUMENTS", "A query id cannot hold a line break")
	}
	if q.format == "" {
		q.format = "TabSeparated"
	}
	if version := values.Get("client_protocol_version"); version != "" {
		if q.protocolVersion, err = strconv.Atoi(version); err != nil {
			return nil, exceptionf(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version is not a number")
		}
	}
	for _, name := range []string{"compress", "decompress"} {
		if v := values.Get(name); v != "" && v != "0" {
			return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "Native compression is not supported by the embedded ClickHouse; leave compress out of the DSN")
		}
	}
	if err := q.takeParameters(values); err != nil {
		return nil, err
	}
	return q, q.takeStatement(w, r, values.Get("query"))
}

// takeParameters sorts the rest of the URL into settings and placeholders.
func (q *query) takeParameters(values map[string][]string) error {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := values[name][len(values[name])-1]
		if placeholder, ok := strings.CutPrefix(name, "param_"); ok {
			if !paramName.MatchString(placeholder) {
				return exceptionf(codeBadArguments, "BAD_ARGUMENTS", "Bad parameter name %q", placeholder)
			}
			q.params.add(placeholder, value)
			q.paramValues[placeholder] = value
			continue
		}
		if slices.Contains(notSettings, name) {
			continue
		}
		if !settingName.MatchString(name) {
			return exceptionf(codeUnknownSetting, "UNKNOWN_SETTING", "Bad setting name %q", name)
		}
		if name == "log_comment" {
			q.comment = value
		}
		q.settings = append(q.settings, setting{name, value})
	}
	return nil
}

// takeStatement decides what the body is: the data of the INSERT in the URL, or
// the (rest of the) statement.
func (q *query) takeStatement(w http.ResponseWriter, r *http.Request, fromURL string) error {
	body, err := decodedBody(r)
	if err != nil {
		return err
	}
	r.Body = body
	if insertStart.MatchString(fromURL) {
		if m := insertFormat.FindStringSubmatch(fromURL); m != nil {
			q.sql, q.insertFormat = m[1], m[2]
			return nil
		}
		if m := insertValues.FindStringSubmatch(fromURL); m != nil {
			q.sql, q.insertFormat = m[1], "Values"
			return nil
		}
	}
	rest, err := io.ReadAll(http.MaxBytesReader(w, r.Body, statementMaxBytes))
	if err != nil {
		return exceptionf(codeCannotReadData, "CANNOT_READ_ALL_DATA", "Cannot read the statement: %v", err)
	}
	q.sql = fromURL + string(rest)
	if m := formatClause.FindStringSubmatch(q.sql); m != nil {
		q.format = m[1]
	}
	q.sql = withClientIDs(q.sql)
	return nil
}

// streams tells whether the answer can be fetched and passed on in pieces:
// a SELECT, in a format whose pieces simply follow one another.
func (q *query) streams() bool {
	switch q.format {
	case "Native", "RowBinary", "TabSeparated", "TSV", "CSV", "JSONEachRow", "JSONCompactEachRow":
		return selectStart.MatchString(q.sql)
	}
	return false
}

// killTarget is the id that KILL QUERY WHERE query_id = '…' names. The engine
// knows its queries by other ids, so no other form may reach it with query_id.
func (q *query) killTarget() (id string, ok bool, err error) {
	if !killStart.MatchString(q.sql) {
		return "", false, nil
	}
	m := killByID.FindStringSubmatch(q.sql)
	if m == nil {
		return "", false, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED",
			"The embedded ClickHouse knows only KILL QUERY WHERE query_id = 'x' [SYNC]")
	}
	q.killAsync = !strings.EqualFold(m[3], "SYNC")
	if m[2] != "" {
		value, bound := q.paramValues[m[2]]
		if !bound {
			return "", false, exceptionf(456, "UNKNOWN_QUERY_PARAMETER", "Substitution %s is not set", m[2])
		}
		return value, true, nil
	}
	return unescapeString.Replace(m[1]), true, nil
}

var unescapeString = strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\n`, "\n", `\t`, "\t")

// processes finds system.processes, and literals and comments so as to pass
// over them.
var processes = regexp.MustCompile("(?is)'(?:[^'\\\\]|\\\\.|'')*'|\"(?:[^\"\\\\]|\\\\.)*\"|`(?:[^`\\\\]|\\\\.)*`|--[^\\n]*|/\\*.*?\\*/|\\bsystem\\s*\\.\\s*processes\\b")

// withClientIDs makes system.processes show the ids the clients gave.
func withClientIDs(sql string) string {
	if !strings.Contains(strings.ToLower(sql), "processes") {
		return sql
	}
	return processes.ReplaceAllStringFunc(sql, func(found string) string {
		if found[0] != 's' && found[0] != 'S' {
			return found
		}
		return fmt.Sprintf("(SELECT * REPLACE (if(%[1]s = '', query_id, %[1]s) AS query_id) FROM system.processes)", idColumn)
	})
}
