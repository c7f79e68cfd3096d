// Writes the JSON schemas by which kubeconform checks manifests, without a cluster and without a download:
//
//	schemas SWAGGER OUT [CRD…]
//
// SWAGGER is the OpenAPI document in the Kubernetes module (api/openapi-spec/swagger.json), each CRD a file. A schema
// is written to OUT/GROUP/KIND_VERSION.json, where the core group is named v1 as kubeconform names it, so that
// kubeconform is told: -schema-location 'OUT/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'.
//
// The schemas are strict: a field that is not of the kind is an error, as it is to an API server that is asked so.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// draft is the one whose exclusiveMinimum is a boolean, as it is in OpenAPI.
const draft = "http://json-schema.org/draft-04/schema#"

// object is a JSON schema, or a part of one.
type object = map[string]any

func main() {
	log.SetFlags(0)
	log.SetPrefix("schemas: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: schemas SWAGGER OUT [CRD…]")
	}
	written, err := writeAll(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%d kinds", written)
}

func writeAll(swagger, out string, crds []string) (int, error) {
	kinds, err := builtIn(swagger)
	if err != nil {
		return 0, err
	}
	for _, file := range crds {
		custom, err := defined(file)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		kinds = append(kinds, custom...)
	}
	for _, kind := range kinds {
		if err := kind.write(out); err != nil {
			return 0, err
		}
	}
	return len(kinds), nil
}

// kind is one kind in one version.
type kind struct {
	group, version, name string
	schema               object
}

func (k kind) apiVersion() string {
	return strings.TrimPrefix(k.group+"/"+k.version, "/")
}

func (k kind) write(out string) error {
	k.schema["$schema"] = draft
	properties, _ := k.schema["properties"].(object)
	if properties == nil {
		return fmt.Errorf("%s %s has no fields", k.apiVersion(), k.name)
	}
	properties["apiVersion"] = object{"type": "string", "enum": []string{k.apiVersion()}}
	properties["kind"] = object{"type": "string", "enum": []string{k.name}}
	k.schema["required"] = append(required(k.schema), "apiVersion", "kind")
	text, err := json.Marshal(k.schema)
	if err != nil {
		return err
	}
	folder := k.group
	if folder == "" {
		folder = k.version
	}
	file := filepath.Join(out, folder, strings.ToLower(k.name)+"_"+k.version+".json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// builtIn reads the kinds that Kubernetes itself has.
func builtIn(swagger string) ([]kind, error) {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return nil, err
	}
	var document struct{ Definitions map[string]object }
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	var kinds []kind
	for name, definition := range document.Definitions {
		ids, _ := definition["x-kubernetes-group-version-kind"].([]any)
		// What is sent with a request, or comes in an answer, is of every group, and is in no manifest.
		if len(ids) != 1 {
			continue
		}
		id, _ := ids[0].(object)
		kinds = append(kinds, kind{
			group:   asText(id["group"]),
			version: asText(id["version"]),
			name:    asText(id["kind"]),
			schema:  closing{document.Definitions}.close(definition, []string{name}),
		})
	}
	return kinds, nil
}

// defined reads the kind that a CRD defines, in each version.
func defined(file string) ([]kind, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crd apiextensions.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return nil, err
	}
	var kinds []kind
	for _, version := range crd.Spec.Versions {
		text, err := json.Marshal(version.Schema.OpenAPIV3Schema)
		if err != nil {
			return nil, err
		}
		var schema object
		if err := json.Unmarshal(text, &schema); err != nil {
			return nil, err
		}
		kinds = append(kinds, kind{
			group:   crd.Spec.Group,
			version: version.Name,
			name:    crd.Spec.Names.Kind,
			schema:  closing{}.close(schema, nil),
		})
	}
	return kinds, nil
}

// closing turns an OpenAPI schema into a strict JSON schema that stands alone.
type closing struct {
	definitions map[string]object // what a $ref of it names
}

// kept are the words that mean the same in both languages. Formats are left out, for kubeconform knows others.
var kept = []string{"enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
	"minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
	"allOf", "anyOf", "oneOf", "not"}

func (c closing) close(schema object, inside []string) object {
	if reference, ok := schema["$ref"].(string); ok {
		return c.follow(strings.TrimPrefix(reference, "#/definitions/"), inside)
	}
	closed := object{}
	for _, word := range kept {
		if value, ok := schema[word]; ok {
			closed[word] = value
		}
	}
	if fields := required(schema); len(fields) > 0 {
		closed["required"] = fields
	}
	if flag(schema, "x-kubernetes-int-or-string") || schema["format"] == "int-or-string" {
		delete(closed, "anyOf") // It says the same, by types alone.
		closed["type"] = []string{"string", "integer"}
	} else if schema["type"] != nil {
		closed["type"] = schema["type"]
	}
	if flag(schema, "nullable") {
		orNull(closed)
	}
	if items, ok := schema["items"].(object); ok {
		closed["items"] = c.close(items, inside)
	}
	if values, ok := schema["additionalProperties"].(object); ok {
		closed["additionalProperties"] = c.close(values, inside)
	}
	if fields, ok := schema["properties"].(object); ok {
		closed["properties"] = c.closeFields(fields, required(schema), inside)
		if !flag(schema, "x-kubernetes-preserve-unknown-fields") && closed["additionalProperties"] == nil {
			closed["additionalProperties"] = false
		}
	}
	return closed
}

func (c closing) closeFields(fields object, required []string, inside []string) object {
	closed := object{}
	for name, field := range fields {
		schema, _ := field.(object)
		value := c.close(schema, inside)
		// To the API server, a field that is null is one that is not there.
		if !slices.Contains(required, name) {
			orNull(value)
		}
		closed[name] = value
	}
	return closed
}

// follow closes what a $ref names. A kind that holds itself, as a CRD's schema does, is taken as anything there.
func (c closing) follow(name string, inside []string) object {
	if slices.Contains(inside, name) {
		return object{}
	}
	switch name[strings.LastIndex(name, ".")+1:] {
	case "JSON", "RawExtension", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray":
		return object{}
	case "IntOrString":
		return object{"type": []string{"string", "integer"}}
	case "Quantity":
		return object{"type": []string{"string", "number"}}
	}
	return c.close(c.definitions[name], append(slices.Clone(inside), name))
}

func orNull(schema object) {
	switch types := schema["type"].(type) {
	case string:
		schema["type"] = []string{types, "null"}
	case []string:
		if !slices.Contains(types, "null") {
			schema["type"] = append(slices.Clone(types), "null")
		}
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, nil) {
		schema["enum"] = append(slices.Clone(values), nil)
	}
}

func required(schema object) []string {
	var fields []string
	switch values := schema["required"].(type) {
	case []any:
		for _, value := range values {
			fields = append(fields, asText(value))
		}
	case []string:
		fields = append(fields, values...)
	}
	return fields
}

func flag(schema object, word string) bool {
	value, _ := schema[word].(bool)
	return value
}

func asText(value any) string {
	text, _ := value.(string)
	return text
}
