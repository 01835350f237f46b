// Writes a conversation by a template as Ollama does: Go's own text/template, messages by their fields.
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }

func main() {
	var asked struct {
		Template string
		Messages []*message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	known := map[string]any{"Messages": asked.Messages}
	if err := template.Must(template.New("").Parse(asked.Template)).Execute(os.Stdout, known); err != nil {
		panic(err)
	}
}
