@HEADER@
//
// For any simulator of SystemVerilog: no vendor's library is needed.
// It loads a memory image, repeats what a driver wrote to the registers, waits for the interrupt after each doorbell, and at the
// end compares every word of memory with what the reference model left. It prints PASS or FAIL; a failure ends in $fatal.
//
// Files, read from the folder that the simulation runs in (or from +files=FOLDER):
//   identification.hex  offset and value of the registers that tell the build
//   memory.hex          device memory before the first doorbell
//   writes.hex          offset and value of each register write, in order
//   expected.hex        the words of memory that the runs change

`timescale 1ns / 1ps
`default_nettype none

module @MODULE@_tb;
    localparam DATA_WIDTH = @DATA_WIDTH@;     // of a memory port
    localparam CHANNELS = @CHANNELS@;         // memory ports
    localparam BEAT_WIDTH = CHANNELS * DATA_WIDTH;
    localparam ADDRESS_WIDTH = @ADDRESS_WIDTH@;
    localparam MEMORY_WORDS = @MEMORY_WORDS@;
    localparam IDENTIFICATIONS = @IDENTIFICATIONS@;
    localparam WRITES = @WRITES@;
    localparam TIMEOUT = @TIMEOUT@;  // cycles for a run

    localparam [11:0] AP_CTRL = 12'h@AP_CTRL@, ISR = 12'h@ISR@, ERROR_CODE = 12'h@ERROR_CODE@,
                      ERROR_COMMAND = 12'h@ERROR_COMMAND@, CYCLES_LO = 12'h@CYCLES_LO@;

    reg ap_clk = 0, ap_rst_n = 0;
    always #5 ap_clk = !ap_clk;

    reg  [11:0] awaddr, araddr;
    reg  [31:0] wdata;
    reg         awvalid = 0, wvalid = 0, bready = 0, arvalid = 0, rready = 0;
    wire        awready, wready, bvalid, arready, rvalid;
    wire [1:0]  bresp, rresp;
    wire [31:0] rdata;
    wire        interrupt;

@MEMORIES@
    @MODULE@ dut (
        .ap_clk(ap_clk), .ap_rst_n(ap_rst_n), .interrupt(interrupt),
        .s_axi_control_awaddr(awaddr), .s_axi_control_awprot(3'b000), .s_axi_control_awvalid(awvalid),
        .s_axi_control_awready(awready),
        .s_axi_control_wdata(wdata), .s_axi_control_wstrb(4'b1111), .s_axi_control_wvalid(wvalid), .s_axi_control_wready(wready),
        .s_axi_control_bresp(bresp), .s_axi_control_bvalid(bvalid), .s_axi_control_bready(bready),
        .s_axi_control_araddr(araddr), .s_axi_control_arprot(3'b000), .s_axi_control_arvalid(arvalid),
        .s_axi_control_arready(arready),
        .s_axi_control_rdata(rdata), .s_axi_control_rresp(rresp), .s_axi_control_rvalid(rvalid), .s_axi_control_rready(rready),
        // One identifier, no locks, quality of service or protection: those outputs are constant.
@CONNECTIONS@
    );

    task write_register(input [11:0] offset, input [31:0] value);
        reg [1:0] response;
        begin
            awaddr <= offset;
            wdata <= value;
            awvalid <= 1;
            wvalid <= 1;
            bready <= 1;
            @(posedge ap_clk);
            while (!bvalid) begin
                if (awready) awvalid <= 0;
                if (wready) wvalid <= 0;
                @(posedge ap_clk);
            end
            response = bresp;
            bready <= 0;
            @(posedge ap_clk);
            if (response !== 2'b00) $fatal(1, "FAIL: writing register %h was answered with an error", offset);
        end
    endtask

    task read_register(input [11:0] offset, output [31:0] value);
        reg [1:0] response;
        begin
            araddr <= offset;
            arvalid <= 1;
            rready <= 1;
            @(posedge ap_clk);
            while (!rvalid) begin
                if (arready) arvalid <= 0;
                @(posedge ap_clk);
            end
            rready <= 0;
            value = rdata;
            response = rresp;
            @(posedge ap_clk);
            if (response !== 2'b00) $fatal(1, "FAIL: reading register %h was answered with an error", offset);
        end
    endtask

    task run;
        integer waited;
        reg [31:0] status, code, index, cycles;
        begin
            waited = 0;
            while (!interrupt) begin
                @(posedge ap_clk);
                waited = waited + 1;
                if (waited == TIMEOUT) $fatal(1, "FAIL: no interrupt within %0d cycles of the doorbell", TIMEOUT);
            end
            read_register(AP_CTRL, status);
            if (status[2:1] !== 2'b11) $fatal(1, "FAIL: done and idle are not set after the interrupt, AP_CTRL is %h", status);
            read_register(ERROR_CODE, code);
            read_register(ERROR_COMMAND, index);
            if (code != 0) $fatal(1, "FAIL: command %0d stopped with error %0d", index, code);
            read_register(CYCLES_LO, cycles);
            runs = runs + 1;
            total = total + cycles;
            $display("run %0d: %0d cycles", runs, cycles);
        end
    endtask

    reg [43:0]           identification [0:IDENTIFICATIONS-1];
    reg [43:0]           writes         [0:WRITES-1];
    reg [BEAT_WIDTH-1:0] original       [0:MEMORY_WORDS-1];
    reg [BEAT_WIDTH-1:0] expected       [0:MEMORY_WORDS-1];
    reg [BEAT_WIDTH-1:0] found;
    reg [31:0] value;
    integer i, runs, total, wrong, changed;
    string files;

    initial begin
        if (!$value$plusargs("files=%s", files)) files = ".";
        $readmemh({files, "/identification.hex"}, identification);
        $readmemh({files, "/writes.hex"}, writes);
        $readmemh({files, "/memory.hex"}, original);
        $readmemh({files, "/memory.hex"}, expected);
        $readmemh({files, "/expected.hex"}, expected);
        // Every memory has its part of every word.
        for (i = 0; i < MEMORY_WORDS; i = i + 1) {@PARTS@} = original[i];
        runs = 0;
        total = 0;
        wrong = 0;
        changed = 0;

        repeat (8) @(posedge ap_clk);
        ap_rst_n <= 1;
        @(posedge ap_clk);

        for (i = 0; i < IDENTIFICATIONS; i = i + 1) begin
            read_register(identification[i][43:32], value);
            if (value !== identification[i][31:0])
                $fatal(1, "FAIL: register %h is %h, not %h", identification[i][43:32], value, identification[i][31:0]);
        end
        for (i = 0; i < WRITES; i = i + 1) begin
            write_register(writes[i][43:32], writes[i][31:0]);
            if (writes[i][43:32] == AP_CTRL && writes[i][0]) run;
        end
        read_register(ISR, value);
        write_register(ISR, value);
        @(posedge ap_clk);
        if (interrupt !== 1'b0) $fatal(1, "FAIL: the interrupt is not cleared by writing 1 to its bit");

        for (i = 0; i < MEMORY_WORDS; i = i + 1) begin
            if (expected[i] !== original[i]) changed = changed + 1;
            found = {@PARTS@};
            if (found !== expected[i]) begin
                wrong = wrong + 1;
                if (wrong <= 8) $display("address %h: %h, expected %h", i * (BEAT_WIDTH / 8), found, expected[i]);
            end
        end
        if (wrong != 0) $fatal(1, "FAIL: %0d of %0d words of memory differ", wrong, MEMORY_WORDS);
        if (runs == 0 || changed == 0) $fatal(1, "FAIL: nothing was run");
        $display("PASS: %0d runs in %0d cycles, %0d words of %0d bits written, all %0d words of memory as expected",
                 runs, total, changed, BEAT_WIDTH, MEMORY_WORDS);
        $finish;
    end
endmodule

`default_nettype wire
