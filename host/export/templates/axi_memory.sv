// A behavioural AXI4 memory for testbenches: incrementing bursts of the full width, answered in order.
// It withholds valid and ready now and then, the same way in every simulator, and ends the simulation when the master breaks
// a rule of AXI4 (ARM IHI 0022) that this core has to keep. A burst that leaves the memory gets the response SLVERR.

`timescale 1ns / 1ps
`default_nettype none

module @MODULE@_axi_memory #(
    parameter DATA_WIDTH = 128,
    parameter ADDRESS_WIDTH = 40,
    parameter WORDS = 1024,         // memory, in words of DATA_WIDTH bits
    parameter LATENCY = 20,         // cycles from a read address to the first word
    parameter STALL_SIXTEENTHS = 4, // of 16 cycles, those in which a channel does not move
    parameter [31:0] SEED = 1       // which those are; not 0
) (
    input  wire                     clk,
    input  wire                     rst_n,

    input  wire [ADDRESS_WIDTH-1:0] awaddr,
    input  wire [7:0]               awlen,
    input  wire [2:0]               awsize,
    input  wire [1:0]               awburst,
    input  wire                     awvalid,
    output reg                      awready,
    input  wire [DATA_WIDTH-1:0]    wdata,
    input  wire [DATA_WIDTH/8-1:0]  wstrb,
    input  wire                     wlast,
    input  wire                     wvalid,
    output reg                      wready,
    output reg  [1:0]               bresp,
    output reg                      bvalid,
    input  wire                     bready,

    input  wire [ADDRESS_WIDTH-1:0] araddr,
    input  wire [7:0]               arlen,
    input  wire [2:0]               arsize,
    input  wire [1:0]               arburst,
    input  wire                     arvalid,
    output reg                      arready,
    output reg  [DATA_WIDTH-1:0]    rdata,
    output reg  [1:0]               rresp,
    output reg                      rlast,
    output reg                      rvalid,
    input  wire                     rready
);
    localparam BYTES = DATA_WIDTH / 8;
    localparam SIZE = $clog2(BYTES);
    localparam INDEX_WIDTH = $clog2(WORDS);
    localparam REQUESTS = 16;
    localparam [1:0] OKAY = 2'b00, SLVERR = 2'b10, INCR = 2'b01;

    reg [DATA_WIDTH-1:0] words [0:WORDS-1];

    // Channels stall by chance: a linear feedback shift register (x^32 + x^22 + x^2 + x + 1).
    reg [31:0] random;
    wire stall_ar = random[3:0]   < STALL_SIXTEENTHS;
    wire stall_r  = random[8:5]   < STALL_SIXTEENTHS;
    wire stall_aw = random[13:10] < STALL_SIXTEENTHS;
    wire stall_w  = random[18:15] < STALL_SIXTEENTHS;
    wire stall_b  = random[23:20] < STALL_SIXTEENTHS;

    // Reads that were asked for and not answered yet.
    reg [ADDRESS_WIDTH-1:0] request_address [0:REQUESTS-1];
    reg [7:0]               request_length  [0:REQUESTS-1];
    integer                 request_due     [0:REQUESTS-1];
    integer first, count, beat, now;

    // The write burst under way: it has its address, and then all of its data.
    reg                     writing, written;
    reg [ADDRESS_WIDTH-1:0] write_address;
    reg [7:0]               write_left;
    reg                     write_outside;

    wire read_taken = arvalid && arready;
    wire word_free = !rvalid || rready;
    wire word_sent = word_free && count != 0 && request_due[first] <= now && !stall_r;
    wire request_done = word_sent && beat == {24'd0, request_length[first]};
    wire [ADDRESS_WIDTH-1:0] read_address = request_address[first] + beat * BYTES;
    wire read_inside = read_address >> SIZE < WORDS;

    task check_burst(input [ADDRESS_WIDTH-1:0] address, input [7:0] length, input [2:0] size, input [1:0] burst);
        begin
            if (size !== SIZE[2:0] || burst !== INCR || (address & (BYTES - 1)) != 0)
                $fatal(1, "FAIL: the burst at %h is not one of whole words that follow each other", address);
            if ({20'd0, address[11:0]} + ({24'd0, length} + 1) * BYTES > 4096)
                $fatal(1, "FAIL: the burst at %h crosses a boundary of 4 KiB", address);
        end
    endtask

    // What a master has put on a channel must stay until it is taken.
    reg                       ar_waits, aw_waits, w_waits;
    reg [ADDRESS_WIDTH+7:0]   ar_held, aw_held;
    reg [DATA_WIDTH+BYTES:0]  w_held;

    integer i;
    always @(posedge clk) begin
        if (!rst_n) begin
            arready <= 0;
            rvalid <= 0;
            awready <= 0;
            wready <= 0;
            bvalid <= 0;
            writing <= 0;
            written <= 0;
            ar_waits <= 0;
            aw_waits <= 0;
            w_waits <= 0;
            random <= SEED;
            first <= 0;
            count <= 0;
            beat <= 0;
            now <= 0;
        end else begin
            now <= now + 1;
            random <= {random[30:0], random[31] ^ random[21] ^ random[1] ^ random[0]};

            if ((ar_waits && (!arvalid || {araddr, arlen} !== ar_held)) || (aw_waits && (!awvalid || {awaddr, awlen} !== aw_held))
                    || (w_waits && (!wvalid || {wdata, wstrb, wlast} !== w_held)))
                $fatal(1, "FAIL: a channel changed before it was taken");
            ar_waits <= arvalid && !arready;
            aw_waits <= awvalid && !awready;
            w_waits <= wvalid && !wready;
            ar_held <= {araddr, arlen};
            aw_held <= {awaddr, awlen};
            w_held <= {wdata, wstrb, wlast};

            // Reads. One more request may be on its way while ready falls.
            arready <= count < REQUESTS - 2 && !stall_ar;
            if (read_taken) begin
                check_burst(araddr, arlen, arsize, arburst);
                request_address[(first + count) % REQUESTS] <= araddr;
                request_length[(first + count) % REQUESTS] <= arlen;
                request_due[(first + count) % REQUESTS] <= now + LATENCY;
            end
            count <= count + (read_taken ? 1 : 0) - (request_done ? 1 : 0);
            if (request_done) first <= (first + 1) % REQUESTS;
            if (word_sent) beat <= request_done ? 0 : beat + 1;
            if (word_free) begin
                rvalid <= word_sent;
                rlast <= request_done;
                rresp <= read_inside ? OKAY : SLVERR;
                rdata <= read_inside ? words[read_address[SIZE +: INDEX_WIDTH]] : {DATA_WIDTH{1'b0}};
            end

            // Writes, one burst at a time.
            awready <= !writing && !bvalid && !stall_aw && !(awvalid && awready);
            if (awvalid && awready) begin
                check_burst(awaddr, awlen, awsize, awburst);
                writing <= 1;
                write_address <= awaddr;
                write_left <= awlen;
                write_outside <= 0;
            end
            wready <= writing && !written && !stall_w && !(wvalid && wready && write_left == 0);
            if (wvalid && wready) begin
                if (wlast !== (write_left == 0)) $fatal(1, "FAIL: wlast does not mark the last word of the burst");
                if (write_address >> SIZE < WORDS) begin
                    for (i = 0; i < BYTES; i = i + 1)
                        if (wstrb[i]) words[write_address[SIZE +: INDEX_WIDTH]][8 * i +: 8] <= wdata[8 * i +: 8];
                end else
                    write_outside <= 1;
                write_address <= write_address + BYTES;
                write_left <= write_left - 1;
                if (write_left == 0) written <= 1;
            end
            if (written && !stall_b) begin
                writing <= 0;
                written <= 0;
                bvalid <= 1;
                bresp <= write_outside ? SLVERR : OKAY;
            end
            if (bvalid && bready) bvalid <= 0;
        end
    end
endmodule

`default_nettype wire
