// Package crashtest kills, stops and disturbs the real processes of the platform
// while clients use it, and compares what is left with what an oracle knows.
//
// The tests build the commands, start them as separate processes on one machine
// (`aione engines`, api, ingest, invoicer), and speak to them as others do: over
// HTTP, by signals, by the command line. The oracle is the clients' own account
// of every answer they got, and a reading of the event log that shares no code
// with the projection that it judges.
//
// What is random comes from one seed, which is printed:
//
//	go test ./crashtest -run KillLoop -seed 7
//	go test ./crashtest -short        # three kills instead of twenty-five
//
// A seed fixes who is killed when, not what the scheduler does meanwhile: it
// repeats the pressure, not the interleaving.
//
// Only processes started here are ever signalled, and none outlives the test: the
// kernel kills them when the test binary ends, however it ends.
package crashtest
