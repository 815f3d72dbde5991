package main

import (
	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/gatewayd/join"
)

func (g *global) enrollmentCommand() *cobra.Command {
	return group("enrollment", "Enroll devices", join.Command())
}
