package httpapi

import (
	"cmp"
	"fmt"
	"strings"
)

// sample is how a route is called from one language.
type sample struct {
	Lang   string `json:"lang"`
	Label  string `json:"label"`
	Source string `json:"source"`
}

// call is what all samples of a route say.
type call struct {
	method, path string
	token        bool
	media, body  string
}

func (at *route) call() call {
	c := call{method: at.method, path: at.path, token: at.scope != ""}
	for _, name := range at.pathNames() {
		c.path = strings.Replace(c.path, "{"+name+"}", cmp.Or(pathExamples[name], "497f6eca-6276-4993-bfeb-53cbbbba6f08"), 1)
	}
	for _, p := range at.params {
		if p.required {
			c.path += "?" + p.name + "=" + p.words[0]
		}
	}
	if contents := at.body.contents(); len(contents) > 0 {
		c.media, c.body = contents[0].media, at.body.example
	}
	return c
}

var pathExamples = map[string]string{"n": "1", "model": "gemini-2.5-flash", "code": "team"}

// samples calls the route with curl, JavaScript, Go and Python.
func (at *route) samples() []sample {
	c := at.call()
	return []sample{
		{"Shell", "curl", c.curl()},
		{"JavaScript", "JavaScript", c.javaScript()},
		{"Go", "Go", c.golang()},
		{"Python", "Python", c.python()},
	}
}

func (c call) curl() string {
	var b strings.Builder
	fmt.Fprintf(&b, `curl --request %s "$AIONE_URL%s"`, c.method, c.path)
	if c.token {
		b.WriteString(" \\\n  --header \"Authorization: Bearer $AIONE_TOKEN\"")
	}
	if c.body != "" {
		fmt.Fprintf(&b, " \\\n  --header 'Content-Type: %s' \\\n  --data '%s'", c.media, strings.ReplaceAll(c.body, "'", `'\''`))
	}
	return b.String()
}

func (c call) javaScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, "const response = await fetch(process.env.AIONE_URL + %q, {\n  method: %q,\n", c.path, c.method)
	var headers []string
	if c.token {
		headers = append(headers, "    Authorization: `Bearer ${process.env.AIONE_TOKEN}`,\n")
	}
	if c.body != "" {
		headers = append(headers, fmt.Sprintf("    \"Content-Type\": %q,\n", c.media))
	}
	if len(headers) > 0 {
		b.WriteString("  headers: {\n" + strings.Join(headers, "") + "  },\n")
	}
	if c.body != "" {
		fmt.Fprintf(&b, "  body: JSON.stringify(%s),\n", c.body)
	}
	b.WriteString("});\nconsole.log(response.status, await response.text());")
	return b.String()
}

func (c call) golang() string {
	var b strings.Builder
	body := "nil"
	if c.body != "" {
		body = "strings.NewReader(`" + c.body + "`)"
	}
	fmt.Fprintf(&b, "req, err := http.NewRequest(%q, os.Getenv(\"AIONE_URL\")+%q, %s)\nif err != nil {\n\treturn err\n}\n", c.method, c.path, body)
	if c.token {
		b.WriteString("req.Header.Set(\"Authorization\", \"Bearer \"+os.Getenv(\"AIONE_TOKEN\"))\n")
	}
	if c.body != "" {
		fmt.Fprintf(&b, "req.Header.Set(\"Content-Type\", %q)\n", c.media)
	}
	b.WriteString("resp, err := http.DefaultClient.Do(req)\nif err != nil {\n\treturn err\n}\ndefer resp.Body.Close()\n_, err = io.Copy(os.Stdout, resp.Body)\nreturn err")
	return b.String()
}

func (c call) python() string {
	var b strings.Builder
	fmt.Fprintf(&b, "import os\nimport requests\n\nresponse = requests.request(\n    %q,\n    os.environ[\"AIONE_URL\"] + %q,\n", c.method, c.path)
	var headers []string
	if c.token {
		headers = append(headers, `"Authorization": "Bearer " + os.environ["AIONE_TOKEN"]`)
	}
	if c.body != "" {
		headers = append(headers, fmt.Sprintf(`"Content-Type": %q`, c.media))
	}
	if len(headers) > 0 {
		b.WriteString("    headers={" + strings.Join(headers, ", ") + "},\n")
	}
	if c.body != "" {
		fmt.Fprintf(&b, "    data='%s',\n", c.body)
	}
	b.WriteString("    timeout=60,\n)\nprint(response.status_code, response.text)")
	return b.String()
}
