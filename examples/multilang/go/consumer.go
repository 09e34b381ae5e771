// A consumer without any library: one JSON object a line, both ways.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type message struct {
	Action  string
	Error   *string
	Records []struct {
		Data         []byte
		PartitionKey string
	}
}

func main() {
	in := json.NewDecoder(os.Stdin)
	checkpoint := func() {
		fmt.Println(`{"action":"checkpoint"}`)
		var answer message
		if err := in.Decode(&answer); err != nil || answer.Error != nil {
			fmt.Fprintln(os.Stderr, "checkpoint failed")
		}
	}
	for {
		var asked message
		if in.Decode(&asked) != nil {
			return // the end of the input
		}
		for _, record := range asked.Records {
			fmt.Fprintln(os.Stderr, record.PartitionKey, string(record.Data))
		}
		switch asked.Action {
		case "processRecords", "shardEnded", "shutdownRequested":
			checkpoint()
		}
		fmt.Printf(`{"action":"status","responseFor":"%s"}`+"\n", asked.Action)
	}
}
