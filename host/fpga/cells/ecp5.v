// Behaviour of the two ECP5 cells that Yosys knows by their ports only, for simulations of netlists; and of the LUT, of which
// Yosys' own model is a tree of multiplexers that compiles to several times as much.
//
// Only what Yosys makes of memories and products is modelled: block RAM without output registers whose ports are of equal
// width, and products without registers. Anything else fails, naming a module that does not exist.
// Facts: Lattice FPGA-TN-02204 (memory), FPGA-TN-02205 (sysDSP).

module LUT4 (input A, B, C, D, output Z);
    parameter [15:0] INIT = 16'h0000;
    assign Z = INIT[{D, C, B, A}];
endmodule

module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
    DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
    DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter GSR = "DISABLED";
    parameter INIT_DATA = "STATIC";
    parameter INITVAL_00 = 320'h0;
    parameter INITVAL_01 = 320'h0;
    parameter INITVAL_02 = 320'h0;
    parameter INITVAL_03 = 320'h0;
    parameter INITVAL_04 = 320'h0;
    parameter INITVAL_05 = 320'h0;
    parameter INITVAL_06 = 320'h0;
    parameter INITVAL_07 = 320'h0;
    parameter INITVAL_08 = 320'h0;
    parameter INITVAL_09 = 320'h0;
    parameter INITVAL_0A = 320'h0;
    parameter INITVAL_0B = 320'h0;
    parameter INITVAL_0C = 320'h0;
    parameter INITVAL_0D = 320'h0;
    parameter INITVAL_0E = 320'h0;
    parameter INITVAL_0F = 320'h0;
    parameter INITVAL_10 = 320'h0;
    parameter INITVAL_11 = 320'h0;
    parameter INITVAL_12 = 320'h0;
    parameter INITVAL_13 = 320'h0;
    parameter INITVAL_14 = 320'h0;
    parameter INITVAL_15 = 320'h0;
    parameter INITVAL_16 = 320'h0;
    parameter INITVAL_17 = 320'h0;
    parameter INITVAL_18 = 320'h0;
    parameter INITVAL_19 = 320'h0;
    parameter INITVAL_1A = 320'h0;
    parameter INITVAL_1B = 320'h0;
    parameter INITVAL_1C = 320'h0;
    parameter INITVAL_1D = 320'h0;
    parameter INITVAL_1E = 320'h0;
    parameter INITVAL_1F = 320'h0;
    parameter INITVAL_20 = 320'h0;
    parameter INITVAL_21 = 320'h0;
    parameter INITVAL_22 = 320'h0;
    parameter INITVAL_23 = 320'h0;
    parameter INITVAL_24 = 320'h0;
    parameter INITVAL_25 = 320'h0;
    parameter INITVAL_26 = 320'h0;
    parameter INITVAL_27 = 320'h0;
    parameter INITVAL_28 = 320'h0;
    parameter INITVAL_29 = 320'h0;
    parameter INITVAL_2A = 320'h0;
    parameter INITVAL_2B = 320'h0;
    parameter INITVAL_2C = 320'h0;
    parameter INITVAL_2D = 320'h0;
    parameter INITVAL_2E = 320'h0;
    parameter INITVAL_2F = 320'h0;
    parameter INITVAL_30 = 320'h0;
    parameter INITVAL_31 = 320'h0;
    parameter INITVAL_32 = 320'h0;
    parameter INITVAL_33 = 320'h0;
    parameter INITVAL_34 = 320'h0;
    parameter INITVAL_35 = 320'h0;
    parameter INITVAL_36 = 320'h0;
    parameter INITVAL_37 = 320'h0;
    parameter INITVAL_38 = 320'h0;
    parameter INITVAL_39 = 320'h0;
    parameter INITVAL_3A = 320'h0;
    parameter INITVAL_3B = 320'h0;
    parameter INITVAL_3C = 320'h0;
    parameter INITVAL_3D = 320'h0;
    parameter INITVAL_3E = 320'h0;
    parameter INITVAL_3F = 320'h0;

    localparam WIDTH = DATA_WIDTH_A;
    localparam WORDS = WIDTH >= 9 ? 18432 / WIDTH : 16384 / WIDTH;
    // The lowest bit of an address that counts words; those below enable bytes.
    localparam LOW = WIDTH == 36 ? 5 : WIDTH == 18 ? 4 : WIDTH == 9 ? 3 : WIDTH == 4 ? 2 : WIDTH == 2 ? 1 : 0;
    localparam BYTE = WIDTH >= 9 ? 9 : WIDTH;

    generate
        if (DATA_WIDTH_A != DATA_WIDTH_B || REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || GSR != "DISABLED"
                || CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB"
                || INIT_DATA != "STATIC" || (WIDTH == 36 && (WRITEMODE_A != "NORMAL" || WRITEMODE_B != "NORMAL")))
            no_model_of_this_mode_of_DP16KD failed ();
    endgenerate

    localparam [20479:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
        INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
        INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
        INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] input_a = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0, DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
    DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] input_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0};
    wire [13:0] word_a = address_a >> LOW, word_b = address_b >> LOW;
    wire [3:0] bytes_a = WIDTH >= 18 ? address_a[3:0] : 4'b1111, bytes_b = WIDTH >= 18 ? address_b[3:0] : 4'b1111;
    wire selected_a = CEA & ~CSA2 & ~CSA1 & ~CSA0, selected_b = CEB & ~CSB2 & ~CSB1 & ~CSB0;

    reg [WIDTH - 1:0] memory [0:WORDS - 1];
    reg [WIDTH - 1:0] output_a = 0, output_b = 0;
    integer i, j;

    // Of the 20 bits that hold 18 in INIT; a word of less than 9 bits is a part of the lower 8 of 9.
    function integer place(input integer bit_number);
        integer stored;
        begin
            stored = WIDTH >= 9 ? bit_number : bit_number / 8 * 9 + bit_number % 8;
            place = stored / 18 * 20 + stored % 18;
        end
    endfunction

    initial
        for (i = 0; i < WORDS; i = i + 1)
            for (j = 0; j < WIDTH; j = j + (WIDTH == 36 ? 18 : WIDTH))
                memory[i][j +: (WIDTH == 36 ? 18 : WIDTH)] = INIT[place(i * WIDTH + j) +: (WIDTH == 36 ? 18 : WIDTH)];

    // What a port reads of a byte that the other one writes is undefined: here it is wrong in every bit, so that a design that
    // relies on it is noticed.
    wire same = word_a == word_b;
    wire [WIDTH - 1:0] clash_a, clash_b;
    genvar k;
    generate
        for (k = 0; k < WIDTH / BYTE; k = k + 1) begin
            assign clash_a[k * BYTE +: BYTE] = {BYTE{same & selected_b & WEB & bytes_b[k] & (WIDTH != 36)}};
            assign clash_b[k * BYTE +: BYTE] = {BYTE{same & selected_a & WEA & bytes_a[k]}};
        end
    endgenerate
    wire [WIDTH - 1:0] read_a = memory[word_a] ^ clash_a;
    wire [WIDTH - 1:0] read_b = memory[word_b] ^ clash_b;

    always @(posedge CLKA)
        if (selected_a & WEA)
            for (i = 0; i < WIDTH / BYTE; i = i + 1)
                if (bytes_a[i]) memory[word_a][i * BYTE +: BYTE] <= input_a[i * BYTE +: BYTE];

    generate
        if (WIDTH != 36) begin
            always @(posedge CLKB)
                if (selected_b & WEB)
                    for (j = 0; j < WIDTH / BYTE; j = j + 1)
                        if (bytes_b[j]) memory[word_b][j * BYTE +: BYTE] <= input_b[j * BYTE +: BYTE];
        end
        if (RESETMODE == "SYNC") begin
            always @(posedge CLKA)
                if (RSTA) output_a <= 0;
                else if (selected_a & OCEA) begin
                    if (~WEA | WRITEMODE_A == "READBEFOREWRITE") output_a <= read_a;
                    else if (WRITEMODE_A == "WRITETHROUGH") output_a <= input_a;
                end
            always @(posedge CLKB)
                if (RSTB) output_b <= 0;
                else if (selected_b & OCEB) begin
                    if (~WEB | WIDTH == 36 | WRITEMODE_B == "READBEFOREWRITE") output_b <= read_b;
                    else if (WRITEMODE_B == "WRITETHROUGH") output_b <= input_b;
                end
        end else begin
            always @(posedge CLKA or posedge RSTA)
                if (RSTA) output_a <= 0;
                else if (selected_a & OCEA) begin
                    if (~WEA | WRITEMODE_A == "READBEFOREWRITE") output_a <= read_a;
                    else if (WRITEMODE_A == "WRITETHROUGH") output_a <= input_a;
                end
            always @(posedge CLKB or posedge RSTB)
                if (RSTB) output_b <= 0;
                else if (selected_b & OCEB) begin
                    if (~WEB | WIDTH == 36 | WRITEMODE_B == "READBEFOREWRITE") output_b <= read_b;
                    else if (WRITEMODE_B == "WRITETHROUGH") output_b <= input_b;
                end
        end
    endgenerate

    // A port of 36 bits is read at both outputs, the lower half at the first.
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0} = WIDTH == 36 ? output_b : output_a;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0} = WIDTH == 36 ? output_b >> 18 : output_b;
endmodule

module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
    P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTC_CLK = "NONE";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter REG_OUTPUT_RST = "RST0";
    parameter GSR = "DISABLED";
    parameter SOURCEB_MODE = "B_SHIFT";
    parameter MULT_BYPASS = "DISABLED";

    generate
        if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" || MULT_BYPASS != "DISABLED"
                || REG_OUTPUT_CLK != "NONE" && (REG_OUTPUT_CLK != "CLK0" || REG_OUTPUT_CE != "CE0" || REG_OUTPUT_RST != "RST0"
                    || GSR != "DISABLED"))
            no_model_of_this_mode_of_MULT18X18D failed ();
    endgenerate

    wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1,
    A0};
    wire signed [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1,
    B0};
    wire signed [37:0] product = a * b;
    wire [35:0] p;
    generate
        if (REG_OUTPUT_CLK != "NONE") begin : registered
            reg [35:0] kept = 0;
            always @(posedge CLK0)
                if (RST0) kept <= 0;
                else if (CE0) kept <= product[35:0];
            assign p = kept;
        end else begin : unregistered
            assign p = product[35:0];
        end
    endgenerate
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
    P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = p;
endmodule
