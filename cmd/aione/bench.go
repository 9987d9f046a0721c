package main

import (
	"context"
	"errors"
)

type benchCmd struct{}

// Run measures.
func (c *benchCmd) Run(ctx context.Context) error { return errors.New("bench: not here yet") }
